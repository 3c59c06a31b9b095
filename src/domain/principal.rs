//! Who calls, over which connection.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use uuid::Uuid;

use super::OkmsId;

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

/// What the transport knows of a connection. The one word that `server` and `api` share.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The other end of the TCP connection.
    pub peer_address: SocketAddr,
    /// The access certificate that the client proved to own, if it gave one.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// An access certificate whose chain the TLS handshake has verified.
///
/// It says who the caller claims to be. Whether that credential still counts is looked up at every
/// request, never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// From the serial number.
    pub credential_id: CredentialId,
    /// From the subject alternative name `okms.domain:<okmsId>`.
    pub okms_id: OkmsId,
    /// SHA-256 of the certificate in DER. The credential is bound to this one certificate, so
    /// another one with the same serial number is another credential.
    pub fingerprint: [u8; 32],
}

/// A caller whose credential was found valid for the request at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The credential that the caller used; `None` where a certificate of another authority speaks for
    /// itself.
    pub credential_id: Option<CredentialId>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
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
