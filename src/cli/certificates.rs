//! Whether certificates on disk still serve: asked of the same verifier that clients and the server
//! itself will ask.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};

use crate::domain::Timestamp;

/// A certificate and its private key, both PEM.
pub(super) struct Pair<'a> {
    /// The certificate.
    pub(super) certificate: &'a str,
    /// The private key.
    pub(super) private_key: &'a str,
}

impl Pair<'_> {
    /// Whether clients that trust the authority accept it, under each of these names, at that time.
    pub(super) fn serves(&self, authority: &str, names: &[String], at: Timestamp) -> bool {
        self.check_server(authority, names, at).is_some()
    }

    /// Whether a server that trusts the authority accepts it of a client at that time.
    pub(super) fn identifies(&self, authority: &str, at: Timestamp) -> bool {
        self.check_client(authority, at).is_some()
    }

    fn check_server(&self, authority: &str, names: &[String], at: Timestamp) -> Option<()> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificate = self.certificate_of_key(&provider)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider);
        let verifier = verifier.build().ok()?;
        for name in names {
            let name = ServerName::try_from(name.as_str()).ok()?;
            verifier.verify_server_cert(&certificate, &[], &name, &[], unix_time(at)).ok()?;
        }
        Some(())
    }

    fn check_client(&self, authority: &str, at: Timestamp) -> Option<()> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificate = self.certificate_of_key(&provider)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider);
        let verifier = verifier.build().ok()?;
        verifier.verify_client_cert(&certificate, &[], unix_time(at)).ok().map(|_| ())
    }

    /// The certificate, if the key is its own.
    fn certificate_of_key(&self, provider: &CryptoProvider) -> Option<CertificateDer<'static>> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).ok()?;
        // Refuses a key that is not the certificate's.
        let pair = CertifiedKey::from_der(vec![certificate], key, provider).ok()?;
        pair.cert.into_iter().next()
    }
}

fn roots(authority: &str) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).ok()?).ok()?;
    Some(Arc::new(roots))
}

fn unix_time(at: Timestamp) -> UnixTime {
    let millis = u64::try_from(at.as_millis()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{CredentialId, OkmsId},
        pki::{AccessCertificate, AccessKey, Authority},
    };

    const DAY: u64 = 86_400;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_425_000_000)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_server_certificate_serves_its_names_in_its_time() {
        let authority = Authority::generate("one", now(), 100).unwrap();
        let other = Authority::generate("other", now(), 100).unwrap();
        let made = authority.issue_server(&names(&["localhost", "::1"]), now(), 40).unwrap();
        let pair = Pair { certificate: &made.certificate_pem, private_key: &made.private_key_pem };
        let ca = authority.certificate_pem();
        assert!(pair.serves(ca, &names(&["localhost", "::1"]), now()));
        assert!(pair.serves(ca, &names(&["localhost"]), now().plus_seconds(39 * DAY)));
        assert!(!pair.serves(ca, &names(&["localhost"]), now().plus_seconds(41 * DAY)));
        assert!(!pair.serves(ca, &names(&["localhost", "127.0.0.1"]), now()));
        assert!(!pair.serves(other.certificate_pem(), &names(&["localhost"]), now()));
        assert!(!pair.identifies(ca, now()));
        let private_key = other.private_key_pem();
        let mixed = Pair { certificate: &made.certificate_pem, private_key };
        assert!(!mixed.serves(ca, &names(&["localhost"]), now()));
    }

    #[test]
    fn an_access_certificate_identifies_its_owner_in_its_time() {
        let authority = Authority::generate("one", now(), 100).unwrap();
        let other = Authority::generate("other", now(), 100).unwrap();
        let made = authority
            .issue_access(AccessCertificate {
                credential_id: CredentialId::new(Uuid::from_u128(7)),
                okms_id: OkmsId::new(Uuid::from_u128(8)),
                not_before: now(),
                not_after: now().plus_seconds(40 * DAY),
                key: AccessKey::Ecdsa,
            })
            .unwrap();
        let private_key = made.private_key_pem.unwrap();
        let pair = Pair { certificate: &made.certificate_pem, private_key: &private_key };
        let ca = authority.certificate_pem();
        assert!(pair.identifies(ca, now()));
        assert!(!pair.identifies(ca, now().plus_seconds(41 * DAY)));
        assert!(!pair.identifies(other.certificate_pem(), now()));
        assert!(!pair.serves(ca, &names(&["localhost"]), now()));
    }
}
