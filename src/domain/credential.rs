//! Credentials: what an access certificate stands for.

use super::{Argument, CredentialId, Error, IdentityUrn, OkmsId, Timestamp};

/// A credential of a domain: an access certificate and the identities that it acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id, also the serial number of the certificate.
    pub id: CredentialId,
    /// The only domain in which it counts.
    pub okms_id: OkmsId,
    /// What people call it.
    pub name: String,
    /// More about it.
    pub description: String,
    /// URNs of the identities that it acts for.
    pub identity_urns: Vec<String>,
    /// Whether its owner made the key and gave a certificate signing request.
    pub from_csr: bool,
    /// Whether another authority made the certificate and an operator registered it.
    pub registered: bool,
    /// The access certificate.
    pub certificate_pem: String,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to count by itself.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialStatus {
    /// It counts.
    Ready,
    /// Its time has passed.
    Expired,
    /// It was revoked.
    Revoked,
}

impl Credential {
    /// The largest number of characters of a name. The service's own bound.
    pub const MAX_NAME_LEN: usize = 50;
    /// The largest number of characters of a description. The service's own bound.
    pub const MAX_DESCRIPTION_LEN: usize = 200;
    /// The largest number of identities. The service's own bound.
    pub const MAX_IDENTITIES: usize = 25;
    /// The longest validity in days. The service's own bound.
    pub const MAX_VALIDITY_DAYS: u32 = 365;

    /// Where the credential stands at the time `now`.
    pub fn status(&self, now: Timestamp) -> CredentialStatus {
        CredentialStatus::at(now, self.expires_at, self.revoked_at)
    }

    /// Checks what a person may choose about a new credential.
    ///
    /// # Errors
    ///
    /// [`Argument::FieldRequired`] names the rule that is broken.
    pub fn check(
        name: &str,
        description: &str,
        identity_urns: &[String],
        validity_days: u32,
    ) -> Result<(), Error> {
        let refuse = |rule: &str| Err(Error::argument(Argument::FieldRequired, rule));
        let has_control = |text: &str| text.chars().any(char::is_control);
        let name_len = name.chars().count();
        if name_len == 0 || name_len > Self::MAX_NAME_LEN || has_control(name) {
            return refuse("name must have 1 to 50 characters and no control characters");
        }
        if description.chars().count() > Self::MAX_DESCRIPTION_LEN || has_control(description) {
            return refuse("description must have at most 200 characters, no control characters");
        }
        if identity_urns.len() > Self::MAX_IDENTITIES {
            return refuse("a credential has at most 25 identities");
        }
        if !identity_urns.iter().all(|urn| IdentityUrn::parse(urn).is_some()) {
            return refuse(
                "an identity is a URN such as urn:v1:eu:identity:account:ab12345-ovh, of at most \
                 256 characters",
            );
        }
        if !(1..=Self::MAX_VALIDITY_DAYS).contains(&validity_days) {
            return refuse("validity must be from 1 to 365 days");
        }
        Ok(())
    }
}

impl CredentialStatus {
    /// Where a credential stands at the time `now`.
    pub fn at(now: Timestamp, expires_at: Timestamp, revoked_at: Option<Timestamp>) -> Self {
        if revoked_at.is_some() {
            Self::Revoked
        } else if expires_at <= now {
            Self::Expired
        } else {
            Self::Ready
        }
    }

    /// The word of the service.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, description: &str, urns: &[&str], days: u32) -> bool {
        let urns: Vec<String> = urns.iter().map(|urn| (*urn).to_owned()).collect();
        Credential::check(name, description, &urns, days).is_ok()
    }

    #[test]
    fn every_bound_holds() {
        let urn = "urn:v1:eu:identity:user:ab12345-ovh/deploy";
        assert!(check("n", "", &[], 1));
        assert!(check(&"n".repeat(50), &"d".repeat(200), &[urn; 25], 365));
        assert!(!check("", "", &[], 1));
        assert!(!check(&"n".repeat(51), "", &[], 1));
        assert!(!check("a\nb", "", &[], 1));
        assert!(!check("n", &"d".repeat(201), &[], 1));
        assert!(!check("n", "a\u{7}", &[], 1));
        assert!(!check("n", "", &[urn; 26], 1));
        assert!(!check("n", "", &[], 0));
        assert!(!check("n", "", &[], 366));
    }

    #[test]
    fn identities_are_urns() {
        for urn in [
            "urn:v1:eu:identity:account:ab12345-ovh",
            "urn:v1:eu:identity:group:ab12345-ovh/admins",
            "urn:v1:eu:identity:credential:ab12345-ovh/oauth2-EU.0123456789abcdef",
        ] {
            assert!(check("n", "", &[urn], 1), "{urn}");
        }
        for urn in [
            "",
            "x",
            "urn:v1:eu:identity:account:",
            "urn:v1::identity:account:a",
            "urn:v2:eu:identity:account:a",
            "urn:v1:eu:resource:account:a",
            "urn:v1:eu:identity:robot:a",
            "urn:v1:eu:identity:account:a b",
            "urn:v1:eu:identity:account:é",
        ] {
            assert!(!check("n", "", &[urn], 1), "{urn}");
        }
    }
}
