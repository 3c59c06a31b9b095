//! Who is at the other end of a connection, by the certificate that they proved to own.

use std::{
    fmt::Debug,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use super::{ClientMemory, CredentialId, IdentityKind, IdentityUrn, OkmsId, Timestamp};

/// What the transport knows of a connection. The one word that `server` and `api` share.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The other end of the TCP connection.
    pub peer_address: SocketAddr,
    /// The client that proved to own a certificate, if it gave one.
    pub peer: Option<Arc<dyn Peer>>,
    /// What requests of the same [network] hold.
    pub memory: Arc<ClientMemory>,
}

/// What one caller has of addresses: one of IPv4, and 2^64 of IPv6, which networks are given at the least.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A client that proved to hold the key of a certificate.
///
/// Whether that certificate still counts is asked at every request: a connection, or a resumed session,
/// may be older than a revocation, an expiry or a change of the authorities.
pub trait Peer: Send + Sync + Debug {
    /// What the certificate says, if an authority vouches for it now.
    ///
    /// # Errors
    ///
    /// Why none does; the text is for the log.
    fn certificate(&self, now: Timestamp) -> Result<Arc<PeerCertificate>, &'static str>;

    /// SHA-256 of the certificate, whoever vouches for it.
    fn fingerprint(&self) -> [u8; 32];
}

/// A client's certificate whose chain is verified.
///
/// It says who the caller claims to be. Whether the credential behind it still counts is looked up at
/// every request, never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The only domain in which it can count: the one that a certificate of ours names, or that the
    /// authority of another one is bound to.
    pub okms_id: OkmsId,
    /// SHA-256 of the certificate in DER. A credential is bound to this one certificate, so another one
    /// with the same serial number is another credential.
    pub fingerprint: [u8; 32],
    /// Who it says its owner is.
    pub claim: Claim,
}

/// Who a certificate says its owner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The credential that our own authority issued it for: its serial number.
    Issued(CredentialId),
    /// The identities that another authority put into its alternative names; none where the certificate
    /// only counts once it is registered.
    External(Vec<String>),
}

/// Reads a URI in a certificate of another authority: `Ok(None)` where it is no URN of ours.
///
/// An authority that is bound to a domain may vouch for its users, groups and credentials. It may not
/// make the root of an account: only the operator of this server gives that.
///
/// # Errors
///
/// If the URI looks like a URN of ours and is not exactly one of those three forms, in the letters that
/// such names have. A certificate that tries is refused as a whole.
pub fn external_identity(uri: &str) -> Result<Option<&str>, &'static str> {
    let looks_like_ours =
        uri.get(..URN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(URN_PREFIX));
    if !looks_like_ours {
        return Ok(None);
    }
    let urn = IdentityUrn::parse(uri).ok_or("a URN is not one of an identity")?;
    match urn.kind() {
        IdentityKind::User | IdentityKind::Group | IdentityKind::Credential => Ok(Some(uri)),
        IdentityKind::Account => Err("another authority than our own names the root of an account"),
    }
}

const URN_PREFIX: &str = "urn:v1:";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_groups_and_credentials_are_identities() {
        for urn in [
            "urn:v1:eu:identity:user:ab12345-ovh/deploy",
            "urn:v1:eu-west:identity:group:ab12345-ovh/admins",
            "urn:v1:eu:identity:credential:ab12345-ovh/oauth2-EU.0123456789abcdef",
        ] {
            assert_eq!(external_identity(urn), Ok(Some(urn)));
        }
        for uri in
            ["spiffe://example.org/x", "https://example.org", "urn:uuid:x", "", "urn:v1", "é"]
        {
            assert_eq!(external_identity(uri), Ok(None), "{uri}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_refused() {
        let long = format!("urn:v1:eu:identity:user:{}", "a".repeat(IdentityUrn::MAX_LEN));
        for urn in [
            "urn:v1:eu:identity:account:ab12345-ovh",
            "URN:V1:eu:identity:account:ab12345-ovh",
            "urn:v1:eu:Identity:user:a",
            "urn:v1:eu:identity:User:a",
            "urn:v1:eu:identity:robot:a",
            "urn:v1:eu:identity:user:",
            "urn:v1:eu:identity:user",
            "urn:v1::identity:user:a",
            "urn:v1:*:identity:user:a",
            "urn:v1:eu:identity:user:*",
            "urn:v1:eu:identity:user:a%2Fb",
            "urn:v1:eu:identity:user:a b",
            "urn:v1:eu:identity:user:a\0",
            "urn:v1:eu:identity:user:é",
            "urn:v1:eu:resource:okms:a",
            &long,
        ] {
            assert!(external_identity(urn).is_err(), "{urn}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(network(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_ne!(network(ip("2001:db8:1:3::1")), ip("2001:db8:1:2::"));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// However it is spelt, the root of an account never comes out of a certificate.
        #[test]
        fn no_uri_names_the_root(
            uri in "(?i:urn):(?i:v1):[a-z*-]{0,3}:(?i:identity):(?i:account|user|group)[:*%\0a]{1,3}"
        ) {
            if let Ok(Some(urn)) = external_identity(&uri) {
                prop_assert!(!urn.to_ascii_lowercase().contains(":account:"), "{}", urn);
                prop_assert!(urn.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*'));
            }
        }
    }
}
