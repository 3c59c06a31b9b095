//! Lists of revoked certificates: read, checked, the newest of each issuer kept.
//!
//! A list that can't be used is an error and never ignored: whoever configured it counts on it. The one
//! exception is a list beside a newer one of the same issuer and scope, or one from the future beside
//! one that counts: publishers leave old files lying about, and rustls, which takes the first list that
//! fits, must not meet the old one.
//!
//! A stale list refuses the clients of its issuer. While the server runs it does no more than that: one
//! publisher that is late must not keep out what the others have revoked since.

use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
};

use super::{Error, RevocationList, authorities::Authorities, material::MAX_LIST_BYTES};
use crate::domain::{OkmsId, Timestamp};

/// A list that can be used.
pub(super) struct UsableList {
    /// The name of its file.
    pub(super) name: String,
    pub(super) der: CertificateRevocationListDer<'static>,
    /// The public key that it is signed with, in DER.
    pub(super) issuer_key: Vec<u8>,
    /// The name of its issuer, in DER.
    pub(super) issuer_name: Vec<u8>,
    /// What narrows it down to some certificates of its issuer: the extension, in DER; often empty.
    distribution_point: Vec<u8>,
    /// Its number among those of its issuer, big-endian without leading zeros; the empty one is the
    /// least.
    number: Vec<u8>,
    /// The groups of authorities that it is for; `None` is our own.
    pub(super) domains: Vec<Option<OkmsId>>,
    pub(super) begins: Timestamp,
    /// From then on it is stale.
    pub(super) ends: Timestamp,
}

/// What a stale list does to the set that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// The set is refused: at a start, when somebody looks.
    RefusesSet,
    /// The list refuses the clients of its issuer; the set is good.
    RefusesClients,
}

/// Reads the configured lists and keeps the newest of each issuer and scope, the newest first: rustls
/// takes the first of an issuer that fits, and an old list of all must not hide a new one of some.
///
/// # Errors
///
/// If a file holds no list, a list is not signed by one of the configured authorities (intermediates
/// included), can't be read, is from the future with none before it, or is stale where that refuses
/// the set.
pub(super) fn usable_lists(
    files: &[RevocationList],
    authorities: &Authorities,
    stale: Stale,
    now: Timestamp,
) -> Result<Vec<UsableList>, Error> {
    let mut usable: Vec<UsableList> = Vec::new();
    let mut early: Vec<UsableList> = Vec::new();
    for file in files {
        for der in lists(file)? {
            let list = read(&file.name, der, authorities)?;
            if list.begins > now {
                early.push(list);
                continue;
            }
            // The newest, even if it is stale and an older one is not: what it revokes stays revoked.
            match usable.iter_mut().find(|other| other.replaces(&list)) {
                Some(other) if other.age_order() < list.age_order() => *other = list,
                Some(_) => {}
                None => usable.push(list),
            }
        }
    }
    let refused = |list: &UsableList, why: &str| {
        Err(Error::new(format!("revocation list {}: {why}", list.name)))
    };
    if let Some(list) = early.iter().find(|list| !usable.iter().any(|it| it.replaces(list))) {
        return refused(list, "it is from the future");
    }
    let overdue = usable.iter().find(|list| list.ends <= now);
    if let Some(list) = overdue.filter(|_| stale == Stale::RefusesSet) {
        return refused(list, "it is stale: its next update is overdue");
    }
    usable.sort_by(|one, other| other.age_order().cmp(&one.age_order()));
    Ok(usable)
}

impl UsableList {
    /// Whether they are about the same certificates. The extension that names the issuer's key does not
    /// matter: the key itself is known, and a publisher may begin or cease to name it.
    fn replaces(&self, other: &Self) -> bool {
        self.issuer_name == other.issuer_name
            && self.issuer_key == other.issuer_key
            && self.distribution_point == other.distribution_point
    }

    /// Greater for a newer list.
    fn age_order(&self) -> (Timestamp, usize, &[u8]) {
        (self.begins, self.number.len(), &self.number)
    }
}

fn lists(file: &RevocationList) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let bad = |why: &str| Error::new(format!("revocation list {}: {why}", file.name));
    if file.content.len() > MAX_LIST_BYTES {
        return Err(bad("larger than 16 MiB"));
    }
    // DER begins with a SEQUENCE.
    if file.content.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(file.content.clone())]);
    }
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&file.content)
        .collect::<Result<_, _>>()
        .map_err(|_| bad("neither PEM nor DER"))?;
    if found.is_empty() { Err(bad("neither PEM nor DER")) } else { Ok(found) }
}

fn read(
    name: &str,
    der: CertificateRevocationListDer<'static>,
    authorities: &Authorities,
) -> Result<UsableList, Error> {
    let bad = |why: &str| Error::new(format!("revocation list {name}: {why}"));
    let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
        return Err(bad("not an X.509 certificate revocation list"));
    };
    if WEAK_SIGNATURES.contains(&list.signature_algorithm.algorithm.to_id_string().as_str()) {
        return Err(bad("signed with SHA-1"));
    }
    let mut issuer_key = None;
    let mut domains = Vec::new();
    for (domain, certificate) in authorities.all() {
        let Ok((_, issuer)) = X509Certificate::from_der(certificate) else { continue };
        if issuer.subject().as_raw() != list.issuer().as_raw()
            || list.verify_signature(issuer.public_key()).is_err()
        {
            continue;
        }
        if !may_sign_lists(&issuer) {
            return Err(bad("its issuer may not sign revocation lists"));
        }
        issuer_key = Some(issuer.public_key().raw.to_vec());
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    let issuer_key =
        issuer_key.ok_or_else(|| bad("not signed by any of the configured authorities"))?;
    let next_update = list.next_update().ok_or_else(|| bad("it has no next update"))?;
    let mut extensions = list.extensions().iter();
    let distribution_point =
        extensions.find(|found| found.oid.to_id_string() == ISSUING_DISTRIBUTION_POINT);
    let number = list.crl_number().filter(|number| number.bits() > 0);
    let (begins, ends) = (
        Timestamp::from_millis(list.last_update().timestamp().saturating_mul(1_000)),
        Timestamp::from_millis(next_update.timestamp().saturating_mul(1_000)),
    );
    Ok(UsableList {
        name: name.to_owned(),
        issuer_key,
        issuer_name: list.issuer().as_raw().to_vec(),
        distribution_point: distribution_point.map_or_else(Vec::new, |it| it.value.to_vec()),
        number: number.map_or_else(Vec::new, |number| number.to_bytes_be()),
        domains,
        begins,
        ends,
        der: der.clone(),
    })
}

fn may_sign_lists(issuer: &X509Certificate<'_>) -> bool {
    issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
}

/// RSA with SHA-1 (two names) and ECDSA with SHA-1. rustls refuses them too, but only when a client is
/// there to be refused.
const WEAK_SIGNATURES: [&str; 3] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];

const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
