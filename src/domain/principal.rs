//! Who calls.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{OkmsId, TokenId};

/// The id of a credential; also the serial number of its access certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(Uuid);

impl CredentialId {
    /// Makes an id of a UUID.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The 16 bytes of the UUID: the serial number of the certificate, big-endian.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for CredentialId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A caller whose credential was found valid for the request at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The credential whose rights these are; `None` where a certificate of another authority, or a
    /// personal access token, speaks for itself.
    pub credential_id: Option<CredentialId>,
    /// The token that the caller sent.
    pub token_id: Option<TokenId>,
    /// SHA-256 of the certificate in DER; none where the caller has but a token.
    pub fingerprint: Option<[u8; 32]>,
    /// The only domain in which the credential counts.
    pub okms_id: OkmsId,
    /// The region of that domain, as its URNs name it.
    pub region: String,
    /// The URNs of the identities that the credential acts for, those of their groups included.
    pub identity_urns: Vec<String>,
}

/// How often what replicas keep in memory has changed in the store. Read with the credential of each
/// request, so that no replica decides by, or seals with, what another one has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    /// Of policies and groups.
    pub iam: i64,
    /// Of the keys of domains.
    pub keys: i64,
}
