//! Which client certificates pass the handshake.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::trust::TrustSet;
use crate::domain::Timestamp;

/// Asks the trust set, which also wants to be able to read who the client is.
///
/// The chain proves that an authority vouches for the certificate; only its form proves that it was
/// meant for this. One that is valid but unreadable must not become "no certificate": its holder would
/// get the answers for anonymous callers, and a mistake in issuing would stay unseen.
#[derive(Debug)]
pub(super) struct AccessCertificateVerifier {
    trust: Arc<TrustSet>,
    names: Vec<DistinguishedName>,
    required: bool,
    /// Checks the signatures of handshakes.
    signatures: Arc<dyn ClientCertVerifier>,
}

impl AccessCertificateVerifier {
    /// Lets pass what `trust` vouches for, and nobody without a certificate where one is `required`.
    pub(super) fn new(
        trust: Arc<TrustSet>,
        required: bool,
        signatures: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let names = trust.names();
        Self { trust, names, required, signatures }
    }
}

impl ClientCertVerifier for AccessCertificateVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain = [end_entity].into_iter().chain(intermediates);
        let chain: Vec<_> = chain.map(|der| CertificateDer::from(der.as_ref())).collect();
        let millis = i64::try_from(now.as_secs().saturating_mul(1_000)).unwrap_or(i64::MAX);
        self.trust.verify(&chain, Timestamp::from_millis(millis))?;
        Ok(ClientCertVerified::assertion())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
