//! Which client certificates count: chain, revocation, identity.
//!
//! Each root has a verifier of its own, so that it is known which one vouches for a certificate. Only
//! our own authority gives the access form (serial number = credential); the roots of others give
//! identities in the one domain that they are bound to, whatever names they bear.
//!
//! Revocation: where a list is configured for any authority of a group, a certificate of that group
//! counts only if there is a list of its issuer and it is not on it. The intermediates above it are
//! looked up in the lists that there are.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DistinguishedName, OtherError, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey};

use super::{
    Error, TlsMaterial,
    authorities::{Authorities, AuthorityGroup, public_key},
    external, identity,
    revocation::{Stale, UsableList, usable_lists},
    status::{CertificateExpiry, CertificateKind},
};
use crate::domain::{Claim, OkmsId, PeerCertificate, Timestamp};

/// The authorities of client certificates and what they have revoked.
#[derive(Debug)]
pub(super) struct TrustSet {
    groups: Vec<Group>,
    /// When something in the set begins or ends to count, in order.
    boundaries: Vec<Timestamp>,
    /// All that the set is made of.
    digest: [u8; 32],
    expiries: Vec<CertificateExpiry>,
}

#[derive(Debug)]
struct Group {
    domain: Option<OkmsId>,
    anchors: Vec<Anchor>,
    intermediates: Vec<CertificateDer<'static>>,
}

/// One root.
#[derive(Debug)]
struct Anchor {
    period: Period,
    names: Vec<DistinguishedName>,
    /// Chain and dates; whatever is on a list is refused.
    chain: Arc<dyn ClientCertVerifier>,
    /// Whether the certificate's issuer has a list.
    lists: Lists,
}

#[derive(Debug)]
enum Lists {
    /// None are configured for the group.
    NotConfigured,
    /// There are some, but none that a certificate below this root could be looked up in.
    Missing,
    /// A verifier that refuses a certificate whose issuer has no list.
    Configured(Arc<dyn ClientCertVerifier>),
}

/// From its first to its last second.
#[derive(Debug, Clone, Copy)]
struct Period {
    begins: Timestamp,
    /// The first moment after it.
    ends: Timestamp,
}

impl TrustSet {
    /// Makes the set that counts at `now`.
    ///
    /// # Errors
    ///
    /// If an authority or a list can't be used; of a list that is stale, `stale` says whether it can.
    pub(super) fn new(
        material: &TlsMaterial,
        provider: &Arc<CryptoProvider>,
        stale: Stale,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let authorities = Authorities::read(material)?;
        let lists = usable_lists(&material.revocation_lists, &authorities, stale, now)?;
        let groups: Vec<Group> = authorities
            .groups
            .iter()
            .map(|group| Group::new(group, &lists, provider))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            groups,
            boundaries: boundaries(&authorities, &lists),
            digest: fingerprint_of_all(&authorities, &lists),
            expiries: expiries(&authorities, &lists),
        })
    }

    /// Verifies a chain, the client's own certificate first.
    ///
    /// # Errors
    ///
    /// In the words of rustls, which become the alert of a handshake.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<PeerCertificate, rustls::Error> {
        let Some((leaf, presented)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        if presented.len() > MAX_PRESENTED {
            return Err(refused(Error::new("more certificates than a chain can have")));
        }
        let vouching = self.vouching(leaf, presented, now)?;
        check_key(leaf).map_err(refused)?;
        match vouching.domain {
            None => identity::peer_certificate(leaf).map_err(refused),
            Some(okms_id) => {
                let identities = external::identities(leaf).map_err(refused)?;
                let claim = Claim::External(identities);
                Ok(PeerCertificate { okms_id, fingerprint: sha256(leaf), claim })
            }
        }
    }

    /// The group that vouches for a certificate.
    fn vouching(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<&Group, rustls::Error> {
        let mut vouching: Option<&Group> = None;
        let mut refusal = rustls::Error::from(CertificateError::UnknownIssuer);
        for group in &self.groups {
            match group.verify(leaf, presented, now) {
                // Ours comes first. What it signed is of its form or nothing.
                Ok(()) if group.domain.is_none() => return Ok(group),
                Ok(()) => match vouching {
                    Some(other) if other.domain != group.domain => {
                        let two = "authorities of two domains vouch for it";
                        return Err(refused(Error::new(two)));
                    }
                    _ => vouching = Some(group),
                },
                // Signed by the authority that revoked it: nobody else's word outweighs that.
                Err(error) if is_revoked(&error) => return Err(error),
                Err(error) => refusal = more_telling(refusal, error),
            }
        }
        vouching.ok_or(refusal)
    }

    /// The first time after `now` at which a verdict on `chain` may be another one.
    pub(super) fn next_boundary(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Timestamp {
        let at = self.boundaries.partition_point(|boundary| *boundary <= now);
        let of_set = self.boundaries.get(at).copied();
        let of_chain = chain.iter().filter_map(|der| Period::of(der)).flat_map(Period::boundaries);
        let of_chain = of_chain.filter(|boundary| *boundary > now).min();
        let end_of_time = Timestamp::from_millis(i64::MAX);
        of_set.unwrap_or(end_of_time).min(of_chain.unwrap_or(end_of_time))
    }

    /// The names of the roots and of the intermediates in their files. They let a browser offer only
    /// certificates that would do; a client of Go that sends its own certificate alone offers it only
    /// where the issuer itself is named.
    pub(super) fn names(&self) -> Vec<DistinguishedName> {
        let mut names: Vec<DistinguishedName> = Vec::new();
        for group in &self.groups {
            let anchors = group.anchors.iter().flat_map(|anchor| anchor.names.clone());
            let between = group.intermediates.iter().map(|der| subject(der).into());
            for name in anchors.chain(between) {
                if !names.iter().any(|other| other.as_ref() == name.as_ref()) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Any of the verifiers: for signatures of handshakes all are alike.
    pub(super) fn any_verifier(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.groups.first().and_then(|group| group.anchors.first()).map(|anchor| &anchor.chain)
    }

    /// The same for sets that are made of the same.
    pub(super) const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What is in the set, and when it ends.
    pub(super) fn expiries(&self) -> &[CertificateExpiry] {
        &self.expiries
    }
}

impl Group {
    fn new(
        group: &AuthorityGroup,
        lists: &[UsableList],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let of_domain: Vec<&UsableList> =
            lists.iter().filter(|list| list.domains.contains(&group.domain)).collect();
        let keys = group.anchors.iter().chain(&group.intermediates).map(public_key);
        let keys: Vec<Vec<u8>> = keys.collect::<Result<_, _>>()?;
        let configured = of_domain.iter().any(|list| keys.contains(&list.issuer_key));
        let anchors = group.anchors.iter().map(|anchor| {
            Anchor::new(anchor, &of_domain, configured, provider)
                .map_err(|error| Error::new(format!("client authority {}: {error}", group.name)))
        });
        Ok(Self {
            domain: group.domain,
            anchors: anchors.collect::<Result<_, _>>()?,
            intermediates: group.intermediates.clone(),
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), rustls::Error> {
        let helping = presented.iter().chain(&self.intermediates);
        let helping: Vec<CertificateDer<'_>> =
            helping.map(|der| CertificateDer::from(der.as_ref())).collect();
        let mut refusal = rustls::Error::from(CertificateError::UnknownIssuer);
        for anchor in &self.anchors {
            match anchor.verify(leaf, &helping, now) {
                Ok(()) => return Ok(()),
                Err(error) if is_revoked(&error) => return Err(error),
                Err(error) => refusal = more_telling(refusal, error),
            }
        }
        Err(refusal)
    }
}

impl Anchor {
    fn new(
        der: &CertificateDer<'static>,
        lists: &[&UsableList],
        configured: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::new(format!("not usable: {error}"));
        let period = Period::of(der).ok_or_else(|| unusable(&"not an X.509 certificate"))?;
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).map_err(|error| unusable(&error))?;
        let names = roots.subjects();
        let roots = Arc::new(roots);
        // rustls takes the first list of the issuer's name. Beside an authority that has the same name
        // and another key, such as its predecessor, it must not be that one's.
        let (name, key) = (subject(der), public_key(der)?);
        let fits = |list: &&&UsableList| list.issuer_name != name || list.issuer_key == key;
        let lists: Vec<CertificateRevocationListDer<'static>> =
            lists.iter().filter(fits).map(|list| list.der.clone()).collect();
        let builder = || {
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .with_crls(lists.clone())
                .enforce_revocation_expiration()
        };
        let chain = builder().allow_unknown_revocation_status().build();
        let chain = chain.map_err(|error| unusable(&error))?;
        let of_leaf = || builder().only_check_end_entity_revocation().build();
        let lists = match (configured, lists.is_empty()) {
            (false, _) => Lists::NotConfigured,
            (true, true) => Lists::Missing,
            (true, false) => Lists::Configured(of_leaf().map_err(|error| unusable(&error))?),
        };
        Ok(Self { period, names, chain, lists })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        helping: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), rustls::Error> {
        // A clock before 1970 verifies nothing.
        let millis = u64::try_from(now.as_millis());
        let millis = millis.map_err(|_| rustls::Error::FailedToGetCurrentTime)?;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(millis));
        self.chain.verify_client_cert(leaf, helping, time)?;
        match &self.lists {
            Lists::NotConfigured => {}
            Lists::Missing => return Err(CertificateError::UnknownRevocationStatus.into()),
            Lists::Configured(verifier) => {
                verifier.verify_client_cert(leaf, helping, time)?;
            }
        }
        // rustls trusts a root for ever.
        if now < self.period.begins {
            return Err(CertificateError::NotValidYet.into());
        }
        if now >= self.period.ends {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }
}

impl Period {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let seconds = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        Some(Self {
            begins: seconds(validity.not_before.timestamp()),
            ends: seconds(validity.not_after.timestamp().saturating_add(1)),
        })
    }

    const fn boundaries(self) -> [Timestamp; 2] {
        [self.begins, self.ends]
    }
}

/// rustls looks at a client's key only when it verifies the signature of a handshake.
fn check_key(leaf: &CertificateDer<'_>) -> Result<(), Error> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Err(Error::new("not an X.509 certificate"));
    };
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS => {
            Err(Error::new("an RSA key of less than 2048 bits"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new("an unreadable key")),
    }
}

fn boundaries(authorities: &Authorities, lists: &[UsableList]) -> Vec<Timestamp> {
    let of_certificates = authorities.all().filter_map(|(_, der)| Period::of(der));
    let mut boundaries: Vec<Timestamp> = of_certificates.flat_map(Period::boundaries).collect();
    boundaries.extend(lists.iter().flat_map(|list| [list.begins, list.ends]));
    boundaries.sort_unstable();
    boundaries
}

fn fingerprint_of_all(authorities: &Authorities, lists: &[UsableList]) -> [u8; 32] {
    let mut all = Vec::new();
    for group in &authorities.groups {
        // With their numbers, so that the same certificates in other files are another set: lists and
        // intermediates count for those of their own file.
        all.extend_from_slice(&group.domain.map_or([0; 16], |id| *id.as_bytes()));
        for certificates in [&group.anchors, &group.intermediates] {
            all.extend_from_slice(&certificates.len().to_be_bytes());
            all.extend(certificates.iter().flat_map(|der| sha256(der)));
        }
    }
    all.extend(lists.iter().flat_map(|list| sha256(&list.der)));
    sha256(&all)
}

fn expiries(authorities: &Authorities, lists: &[UsableList]) -> Vec<CertificateExpiry> {
    let mut expiries = Vec::new();
    for group in &authorities.groups {
        let kind = match group.domain {
            None => CertificateKind::OwnAuthority,
            Some(_) => CertificateKind::ClientAuthority,
        };
        for der in group.anchors.iter().chain(&group.intermediates) {
            expiries.extend(CertificateExpiry::of(kind, &group.name, der));
        }
    }
    expiries.extend(lists.iter().map(|list| CertificateExpiry {
        kind: CertificateKind::RevocationList,
        name: list.name.clone(),
        fingerprint: sha256(&list.der),
        begins: list.begins,
        ends: list.ends,
    }));
    expiries
}

fn subject(der: &[u8]) -> Vec<u8> {
    let parsed = X509Certificate::from_der(der);
    parsed.map_or_else(|_| Vec::new(), |(_, parsed)| parsed.subject().as_raw().to_vec())
}

/// SHA-256, of a certificate in DER: its fingerprint.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn refused(error: Error) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn is_revoked(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Revoked))
}

/// Of the refusals of two authorities, the one that knew the certificate.
fn more_telling(one: rustls::Error, other: rustls::Error) -> rustls::Error {
    let unknown = rustls::Error::from(CertificateError::UnknownIssuer);
    if one == unknown { other } else { one }
}

/// Certificates beside the client's own. rustls follows six; each is work for a stranger.
const MAX_PRESENTED: usize = 8;

/// NIST SP 800-131A; also the least that rustls verifies.
const MIN_RSA_BITS: usize = 2048;
