//! Tokens: what callers send with a request to say who they are.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{
    Argument, Credential, CredentialId, CredentialStatus, Error, IdentityUrn, OkmsId, Timestamp,
};

/// The id of a token. It names the token in lists and records; it is no part of it, and of no use as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(Uuid);

/// What is known of a token, the token itself apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The only domain in which it counts.
    pub okms_id: OkmsId,
    /// URNs of the identities that it acts for. A bound token has none of its own: it acts for those that its
    /// certificate has at each request.
    pub identity_urns: Vec<String>,
    /// What people say of it.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to count by itself.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The certificate without which it does not count; none for a personal access token.
    pub binding: Option<TokenBinding>,
}

/// The certificate that a token was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBinding {
    /// SHA-256 of the certificate in DER: no other one with the same names or number will do.
    pub fingerprint: [u8; 32],
    /// The certificate's credential, if it has one.
    pub credential_id: Option<CredentialId>,
}

impl TokenId {
    /// Makes an id of a UUID.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for TokenId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Token {
    /// The longest validity in seconds: 365 days, as for an access certificate. Every token ends.
    pub const MAX_VALIDITY_SECONDS: u64 = Credential::MAX_VALIDITY_DAYS as u64 * 86_400;
    /// The shortest: a client takes a token that ends within a minute for one that has ended.
    pub const MIN_VALIDITY_SECONDS: u64 = 60;

    /// Where the token stands at the time `now`.
    pub fn status(&self, now: Timestamp) -> CredentialStatus {
        CredentialStatus::at(now, self.expires_at, self.revoked_at)
    }

    /// Checks what a person may choose about a new token.
    ///
    /// # Errors
    ///
    /// [`Argument::FieldRequired`] names the rule that is broken.
    pub fn check(
        description: &str,
        identity_urns: &[String],
        validity_seconds: u64,
    ) -> Result<(), Error> {
        let refuse = |rule: &str| Err(Error::argument(Argument::FieldRequired, rule));
        if description.chars().count() > Credential::MAX_DESCRIPTION_LEN
            || description.chars().any(char::is_control)
        {
            return refuse("description must have at most 200 characters, no control characters");
        }
        // Nothing else says for whom it acts.
        if identity_urns.is_empty() || identity_urns.len() > Credential::MAX_IDENTITIES {
            return refuse("a token has 1 to 25 identities");
        }
        if !identity_urns.iter().all(|urn| IdentityUrn::parse(urn).is_some()) {
            return refuse(
                "an identity is a URN such as urn:v1:eu:identity:user:ab12345-ovh/deploy, of at most \
                 256 characters",
            );
        }
        if !(Self::MIN_VALIDITY_SECONDS..=Self::MAX_VALIDITY_SECONDS).contains(&validity_seconds) {
            return refuse("validity must be from 1 minute to 365 days");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_holds() {
        let check = |description: &str, urns: &[&str], seconds| {
            let urns: Vec<String> = urns.iter().map(|urn| (*urn).to_owned()).collect();
            Token::check(description, &urns, seconds).is_ok()
        };
        let urn = "urn:v1:eu:identity:user:ab12345-ovh/deploy";
        assert!(check("", &[urn], 60));
        assert!(check(&"d".repeat(200), &[urn; 25], 365 * 86_400));
        assert!(!check(&"d".repeat(201), &[urn], 60));
        assert!(!check("a\nb", &[urn], 60));
        assert!(!check("", &[], 60));
        assert!(!check("", &[urn; 26], 60));
        assert!(!check("", &["urn:v1:eu:identity:robot:a"], 60));
        assert!(!check("", &[urn], 59));
        assert!(!check("", &[urn], 365 * 86_400 + 1));
    }
}
