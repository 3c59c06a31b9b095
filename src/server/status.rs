//! When what the server lives on ends: certificates and revocation lists.

use std::collections::HashMap;

use rustls::pki_types::CertificateDer;
use tracing::{error, info, warn};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::trust::sha256;
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
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let seconds = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        Some(Self {
            kind,
            name: name.to_owned(),
            fingerprint: sha256(der),
            begins: seconds(certificate.validity().not_before.timestamp()),
            ends: seconds(certificate.validity().not_after.timestamp()),
        })
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
    use super::*;

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
