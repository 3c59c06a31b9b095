//! When what the server lives on ends: certificates and revocation lists.

use std::collections::HashMap;

use rustls::pki_types::CertificateDer;
use tracing::{error, info, warn};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Error, TlsMaterial, material::certificates, trust::sha256};
use crate::domain::Timestamp;

/// The certificates and revocation lists in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Each of them.
    pub certificates: Vec<CertificateExpiry>,
}

/// A certificate or a revocation list, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// What it is for.
    pub kind: CertificateKind,
    /// What an operator calls it: a file, mostly.
    pub name: String,
    /// SHA-256 of it in DER.
    pub fingerprint: [u8; 32],
    /// From when on it counts.
    pub begins: Timestamp,
    /// Until when it counts; of a revocation list, when its next one is due.
    pub ends: Timestamp,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// The server's own.
    Server,
    /// The authority that issues access certificates.
    OwnAuthority,
    /// An authority of others, or one between it and its clients.
    ClientAuthority,
    /// A list of revoked certificates.
    RevocationList,
}

impl CertificateKind {
    /// A word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::OwnAuthority => "own_authority",
            Self::ClientAuthority => "client_authority",
            Self::RevocationList => "revocation_list",
        }
    }

    /// The same for people.
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server certificate",
            Self::OwnAuthority => "certificate of our own authority",
            Self::ClientAuthority => "certificate of a client authority",
            Self::RevocationList => "revocation list",
        }
    }
}

impl CertificateExpiry {
    /// Of a certificate; `None` where it can't be read.
    pub(super) fn of(kind: CertificateKind, name: &str, der: &CertificateDer<'_>) -> Option<Self> {
        let (begins, ends) = times(&parsed(der)?);
        Some(Self { kind, name: name.to_owned(), fingerprint: sha256(der), begins, ends })
    }

    /// From when on its end is near: a month ahead for certificates; for lists, which are made anew all
    /// the time, the last quarter of their time.
    fn warns_from(&self) -> Timestamp {
        let ends = self.ends.as_millis();
        let ahead = match self.kind {
            CertificateKind::RevocationList => ends.saturating_sub(self.begins.as_millis()) / 4,
            _ => WARNING_MILLIS,
        };
        Timestamp::from_millis(ends.saturating_sub(ahead))
    }
}

impl CertificateStatus {
    /// Names and fingerprints in one line, for a log.
    pub fn summary(&self) -> String {
        let each = |one: &CertificateExpiry| format!("{} {}", one.name, hex(&one.fingerprint));
        self.certificates.iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// Logs what is in use.
    pub(super) fn log(&self) {
        for one in &self.certificates {
            info!(
                certificate.kind = one.kind.as_str(),
                certificate.name = one.name,
                certificate.fingerprint = hex(&one.fingerprint),
                ends = one.ends.to_rfc3339_seconds(),
                "certificate loaded"
            );
        }
    }

    /// Logs the lists that were taken although they are stale.
    pub(super) fn log_stale(&self, now: Timestamp) {
        let lists =
            self.certificates.iter().filter(|one| one.kind == CertificateKind::RevocationList);
        for list in lists.filter(|list| list.ends <= now) {
            error!(
                certificate.name = list.name,
                certificate.fingerprint = hex(&list.fingerprint),
                ends = list.ends.to_rfc3339_seconds(),
                "the revocation list is stale: the clients of its issuer are refused until there is a \
                 fresh one"
            );
        }
    }
}

/// Warns of ends that are near, once a day each.
#[derive(Debug, Default)]
pub struct ExpiryWarnings {
    last: HashMap<([u8; 32], bool), Timestamp>,
}

impl ExpiryWarnings {
    /// Logs what has ended and what ends soon.
    pub fn warn(&mut self, status: &CertificateStatus, now: Timestamp) {
        for one in self.due(status, now) {
            let (what, name) = (one.kind.name(), one.name.as_str());
            let (fingerprint, ends) = (hex(&one.fingerprint), one.ends.to_rfc3339_seconds());
            if one.ends <= now {
                error!(
                    certificate.name = name,
                    certificate.fingerprint = fingerprint,
                    ends,
                    "the {what} has ended: what depends on it is refused"
                );
            } else {
                warn!(
                    certificate.name = name,
                    certificate.fingerprint = fingerprint,
                    ends,
                    "the {what} ends soon"
                );
            }
        }
    }

    /// What is to be warned of now.
    fn due<'a>(
        &mut self,
        status: &'a CertificateStatus,
        now: Timestamp,
    ) -> Vec<&'a CertificateExpiry> {
        let in_use = |fingerprint: &[u8; 32]| {
            status.certificates.iter().any(|one| one.fingerprint == *fingerprint)
        };
        self.last.retain(|(fingerprint, _), _| in_use(fingerprint));
        let near = status.certificates.iter().filter(|one| one.warns_from() <= now);
        near.filter(|one| {
            let key = (one.fingerprint, one.ends <= now);
            let due = self.last.get(&key).is_none_or(|last| {
                now.as_millis().saturating_sub(last.as_millis()) >= REPEAT_MILLIS
            });
            if due {
                self.last.insert(key, now);
            }
            due
        })
        .collect()
    }
}

/// Checks that clients can take the server's certificate at `now`, as far as times go.
///
/// # Errors
///
/// What has ended or is not valid yet, and when; also where there is no certificate to be read.
pub fn check_server_certificate(material: &TlsMaterial, now: Timestamp) -> Result<(), Error> {
    check_chain(&certificates(&material.certificate_chain_pem, "server certificate")?, now)
}

/// Checks the times of the first certificate, the server's own, and of those behind it that issued it: one of these
/// must count, if there are any. Farther ones often come along for old clients alone, and a root of its own a client
/// has or has not, so their end keeps nobody away.
///
/// # Errors
///
/// As [`check_server_certificate`].
pub(super) fn check_chain(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Error> {
    let mut all = chain.iter().map(parsed);
    let Some(Some(own)) = all.next() else {
        return Err(Error::new("the server certificate can't be read"));
    };
    check_times("the server certificate", &own, now)?;
    let (name, mut refused) = (own.issuer().as_raw(), Ok(()));
    for issuer in all.flatten() {
        if issuer.subject().as_raw() != name || issuer.issuer().as_raw() == name {
            continue;
        }
        match check_times("the issuer of the server certificate", &issuer, now) {
            Ok(()) => return Ok(()),
            Err(error) => refused = Err(error),
        }
    }
    refused
}

fn check_times(what: &str, certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(), Error> {
    let (begins, ends) = times(certificate);
    if now < begins {
        let begins = begins.to_rfc3339_seconds();
        return Err(Error::new(format!("{what} is not valid before {begins}")));
    }
    if ends <= now {
        return Err(Error::new(format!("{what} has ended at {}", ends.to_rfc3339_seconds())));
    }
    Ok(())
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// From when on a certificate counts, and until when.
fn times(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let seconds = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
    let validity = certificate.validity();
    (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()))
}

/// In the form that tools print.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 30 days: time for a person to act.
const WARNING_MILLIS: i64 = 30 * DAY_MILLIS;
/// A day, less what a clock may be off, so that a daily look repeats it.
const REPEAT_MILLIS: i64 = DAY_MILLIS - 60_000;
const DAY_MILLIS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    };
    use time::OffsetDateTime;

    use super::*;

    /// A certificate that counts from one day until another, and is an authority's.
    fn params(name: &str, begins: i64, ends: i64) -> CertificateParams {
        let day = |day: i64| OffsetDateTime::from_unix_timestamp(day * 86_400).unwrap();
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (day(begins), day(ends));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn a_chain_counts_while_the_certificate_and_an_issuer_of_it_do() {
        let [root_key, middle_key, own_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = params("Root", 0, 100);
        let root_der = params("Root", 0, 5).self_signed(&root_key).unwrap().der().clone();
        let root = Issuer::new(root, root_key);
        let middle = |begins, ends| {
            let signed = params("Middle", begins, ends).signed_by(&middle_key, &root);
            signed.unwrap().der().clone()
        };
        let own = {
            let middle = Issuer::new(params("Middle", 0, 100), &middle_key);
            params("Own", 10, 20).signed_by(&own_key, &middle).unwrap().der().clone()
        };
        let of_root = params("Own", 10, 20).signed_by(&own_key, &root).unwrap().der().clone();
        let told = |chain: &[&CertificateDer<'static>], millis: i64| {
            let chain: Vec<_> = chain.iter().map(|one| (*one).clone()).collect();
            let told = check_chain(&chain, Timestamp::from_millis(millis));
            told.err().map(|error| error.to_string())
        };
        let at = 15 * DAY_MILLIS;
        assert_eq!(told(&[&own], 10 * DAY_MILLIS), None);
        assert_eq!(told(&[&own], 20 * DAY_MILLIS - 1), None);
        let early = "the server certificate is not valid before 1970-01-11T00:00:00Z";
        assert_eq!(told(&[&own], 10 * DAY_MILLIS - 1).as_deref(), Some(early));
        let late = "the server certificate has ended at 1970-01-21T00:00:00Z";
        assert_eq!(told(&[&own], 20 * DAY_MILLIS).as_deref(), Some(late));
        let none = "the server certificate can't be read";
        assert_eq!(told(&[], at).as_deref(), Some(none));

        let (good, old, early) = (middle(0, 100), middle(0, 15), middle(16, 100));
        assert_eq!(told(&[&own, &good], at), None);
        let late = "the issuer of the server certificate has ended at 1970-01-16T00:00:00Z";
        assert_eq!(told(&[&own, &old], at).as_deref(), Some(late));
        let soon = "the issuer of the server certificate is not valid before 1970-01-17T00:00:00Z";
        assert_eq!(told(&[&own, &early], at).as_deref(), Some(soon));
        // What else is sent, for whomever.
        assert_eq!(told(&[&own, &old, &good], at), None);
        assert_eq!(told(&[&own, &good, &old, &root_der], at), None);
        assert_eq!(told(&[&of_root, &root_der], at), None);
        assert_eq!(told(&[&of_root, &old], at), None);
    }

    fn one(kind: CertificateKind, begins: i64, ends: i64) -> CertificateStatus {
        let (begins, ends) = (
            Timestamp::from_millis(begins * DAY_MILLIS),
            Timestamp::from_millis(ends * DAY_MILLIS),
        );
        let name = "x".to_owned();
        let one = CertificateExpiry { kind, name, fingerprint: [1; 32], begins, ends };
        CertificateStatus { certificates: vec![one] }
    }

    fn days_of_warning(status: &CertificateStatus, hours: i64) -> Vec<i64> {
        let mut warnings = ExpiryWarnings::default();
        let times = (0..hours).map(|hour| Timestamp::from_millis(hour * 3_600_000));
        let due = times.filter(|now| !warnings.due(status, *now).is_empty());
        due.map(|now| now.as_millis() / DAY_MILLIS).collect()
    }

    #[test]
    fn a_certificate_is_warned_of_once_a_day_from_a_month_ahead() {
        let status = one(CertificateKind::Server, 0, 40);
        assert_eq!(days_of_warning(&status, 24 * 45), (10..45).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_is_warned_of_in_its_last_quarter() {
        let status = one(CertificateKind::RevocationList, 0, 8);
        assert_eq!(days_of_warning(&status, 24 * 10), [6, 7, 8, 9]);
    }

    #[test]
    fn what_is_replaced_is_forgotten() {
        let mut warnings = ExpiryWarnings::default();
        let status = one(CertificateKind::Server, 0, 1);
        assert_eq!(warnings.due(&status, Timestamp::from_millis(0)).len(), 1);
        assert!(warnings.due(&CertificateStatus::default(), Timestamp::from_millis(1)).is_empty());
        assert!(warnings.last.is_empty());
    }
}
