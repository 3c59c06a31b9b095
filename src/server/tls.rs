//! The TLS settings of our listeners.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, GetRandomFailed, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoClientAuth, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    ticketer::TicketRotator,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::{Zeroize, Zeroizing};

use crate::domain::{Clock, Timestamp};

use super::{Error, verifier::AccessCertificateVerifier};

/// What a listener's TLS is made of. All PEM.
#[derive(Clone)]
pub struct TlsMaterial {
    /// The server's certificate, then those that lead to a root, if there are any between.
    pub certificate_chain_pem: String,
    /// The key of the first of them: PKCS#8, SEC 1 or PKCS#1.
    pub private_key_pem: Zeroizing<String>,
    /// The authorities of access certificates; each text may hold several.
    pub client_ca_pems: Vec<String>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("certificate_chain_pem", &self.certificate_chain_pem)
            .field("client_ca_pems", &self.client_ca_pems)
            .finish_non_exhaustive()
    }
}

/// The TLS of the API: asks for an access certificate.
///
/// Without one the handshake succeeds, so that the API can answer 401 in its own words, unless
/// `require_client_certificate`. One that is presented must be good.
///
/// Sessions can be resumed for up to an hour, with the identity they were made with; whether that
/// still counts is looked up at each request. Ticket keys are made here, live in memory only and
/// belong to this value: tickets of another set of authorities, or of another listener, are
/// worthless.
///
/// # Errors
///
/// If a text can't be read, key and certificate do not belong together, or there is no authority.
pub fn api_tls(
    material: &TlsMaterial,
    require_client_certificate: bool,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let roots = Arc::new(client_roots(&material.client_ca_pems)?);
    // The hints, the names of the roots, let a browser offer only certificates that would do.
    let mut chain = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    if !require_client_certificate {
        chain = chain.allow_unauthenticated();
    }
    let chain = chain
        .build()
        .map_err(|error| Error::new(format!("client certificates can't be verified: {error}")))?;
    let verifier = Arc::new(AccessCertificateVerifier::new(chain));
    config(material, verifier, provider, clock)
}

/// The TLS of the documentation: the same server certificate, no client certificates.
///
/// # Errors
///
/// If a text can't be read, or key and certificate do not belong together.
pub fn docs_tls(material: &TlsMaterial, clock: Arc<dyn Clock>) -> Result<Arc<ServerConfig>, Error> {
    config(material, Arc::new(NoClientAuth), provider(), clock)
}

/// When the server's certificate ends; `None` where it cannot be read.
pub fn server_certificate_end(material: &TlsMaterial) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(material.certificate_chain_pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

fn config(
    material: &TlsMaterial,
    verifier: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let key = certified_key(material)?;
    let unusable = |error| Error::new(format!("TLS can't be set up: {error}"));
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // RFC 7627: without it a TLS 1.2 session of a client can be made to look like another's.
    config.require_ems = true;
    // 0-RTT data can be replayed by anyone who saw it.
    config.max_early_data_size = 0;
    // Tickets rather than a store: a store is filled, and emptied of others' sessions, by whoever
    // connects, and that of rustls never lets a session expire.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer =
        Arc::new(TicketRotator::new(TICKET_KEY_SECONDS, ticket_key).map_err(unusable)?);
    Ok(Arc::new(config))
}

/// Named here and never taken from the process: which cryptography protects secrets must not depend
/// on what some library installs first. All its suites are forward secret and authenticated.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_roots(pems: &[String]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for (number, text) in (1..).zip(pems) {
        let what = format!("client authority {number}");
        for certificate in certificates(text, &what)? {
            // rustls takes any certificate as a root; with an access certificate among them its
            // holder would be an authority.
            match X509Certificate::from_der(&certificate) {
                Ok((_, parsed)) if parsed.is_ca() => {}
                _ => return Err(Error::new(format!("{what}: not the certificate of a CA"))),
            }
            roots
                .add(certificate)
                .map_err(|error| Error::new(format!("{what}: not usable: {error}")))?;
        }
    }
    Ok(roots)
}

fn certified_key(material: &TlsMaterial) -> Result<CertifiedKey, Error> {
    let chain = certificates(&material.certificate_chain_pem, "server certificate")?;
    let mut der = PrivateKeyDer::from_pem_slice(material.private_key_pem.as_bytes())
        .map_err(|_| Error::new("server key: no unencrypted PEM private key found"))?;
    let key = aws_lc_rs::sign::any_supported_type(&der);
    der.zeroize();
    let key = key.map_err(|_| Error::new("server key: not a key of a supported kind"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(Error::new("the server's key is not the key of its certificate")),
    }
}

fn certificates(text: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(format!("{what}: not valid PEM: {error}")))?;
    if found.is_empty() {
        return Err(Error::new(format!("{what}: no PEM certificate found")));
    }
    Ok(found)
}

/// Our clock, as rustls asks for it.
#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        // Without a time rustls ends the handshake: a clock before 1970 verifies nothing.
        let millis = u64::try_from(self.0.now().as_millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

fn ticket_key() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    let key = aws_lc_rs::Ticketer::new().map_err(|_| GetRandomFailed)?;
    Ok(Box::new(TicketKey(key)))
}

/// One generation of ticket keys. The ticketer inside would change its key every six hours; it is
/// thrown away long before.
#[derive(Debug)]
struct TicketKey(Arc<dyn ProducesTickets>);

impl ProducesTickets for TicketKey {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        TICKET_KEY_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Half an hour in use and half an hour to be read, so a ticket lives for an hour at most. Shorter
/// than anyone keeps a TLS 1.2 recording in the hope for its ticket key.
const TICKET_KEY_SECONDS: u32 = 30 * 60;
