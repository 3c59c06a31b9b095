//! The TLS settings of our listeners.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use zeroize::Zeroize;

use super::{
    Error, TlsMaterial, material::certificates, trust::TrustSet,
    verifier::AccessCertificateVerifier,
};
use crate::domain::{Clock, Timestamp};

/// The TLS of the API: asks for a client certificate.
///
/// Without one the handshake succeeds, so that the API can answer 401 in its own words, unless
/// `require_client_certificate`. One that is presented must be good.
///
/// Sessions can be resumed for up to an hour, with the certificate they were made with; whether that
/// still counts is looked up at each request. Ticket keys are made here, live in memory only and
/// belong to this value: tickets of another set of authorities, or of another listener, are
/// worthless.
///
/// # Errors
///
/// If the cryptography refuses the settings.
pub(super) fn api_config(
    trust: &Arc<TrustSet>,
    require_client_certificate: bool,
    key: Arc<CertifiedKey>,
    provider: &Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let signatures = trust.any_verifier().cloned();
    let signatures = signatures.ok_or_else(|| Error::new("there is no client authority"))?;
    let verifier =
        AccessCertificateVerifier::new(trust.clone(), require_client_certificate, signatures);
    config(key, Arc::new(verifier), provider.clone(), clock)
}

/// The TLS of the documentation: the same server certificate, no client certificates.
///
/// # Errors
///
/// If the cryptography refuses the settings.
pub(super) fn docs_config(
    key: Arc<CertifiedKey>,
    provider: &Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    config(key, Arc::new(NoClientAuth), provider.clone(), clock)
}

fn config(
    key: Arc<CertifiedKey>,
    verifier: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |error| Error::new(format!("TLS can't be set up: {error}"));
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(ServerCertificate(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // RFC 7627: without it a TLS 1.2 session of a client can be made to look like another's.
    config.require_ems = true;
    // 0-RTT data can be replayed by anyone who saw it.
    config.max_early_data_size = 0;
    // Tickets rather than a store: a store is filled, and emptied of others' sessions, by whoever
    // connects, and that of rustls never lets a session expire.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(clock));
    Ok(Arc::new(config))
}

/// Named here and never taken from the process: which cryptography protects secrets must not depend
/// on what some library installs first. All its suites are forward secret and authenticated.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The server's certificate and its key.
///
/// # Errors
///
/// If one can't be read, or they do not belong together.
pub(super) fn certified_key(material: &TlsMaterial) -> Result<CertifiedKey, Error> {
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

/// The same certificate for every client, whatever name it asks for.
#[derive(Debug)]
struct ServerCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
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

/// Makes and reads tickets. The rotator of rustls changes its key when it is used, however long after
/// it should have, and then goes on to read with the old one: on an idle server that may be ten hours
/// old.
#[derive(Debug)]
pub(super) struct Tickets {
    clock: Arc<dyn Clock>,
    keys: Mutex<TicketKeys>,
}

#[derive(Debug, Default)]
struct TicketKeys {
    /// What tickets are made with.
    current: Option<TicketKey>,
    /// What they may still be read with.
    previous: Option<TicketKey>,
}

/// One generation of ticket keys. The ticketer inside would change its key every six hours; it is
/// thrown away long before.
#[derive(Debug)]
struct TicketKey {
    born: Timestamp,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Tickets {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, keys: Mutex::default() }
    }

    /// Does something with the keys that count now.
    fn with<T>(&self, work: impl FnOnce(&mut TicketKeys, Timestamp) -> Option<T>) -> Option<T> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a time from before would take a key for one from the future.
        let now = self.clock.now();
        keys.forget(now);
        work(&mut keys, now)
    }
}

impl TicketKeys {
    /// Moves what has done its time.
    fn forget(&mut self, now: Timestamp) {
        if self.current.as_ref().is_some_and(|key| !key.is_younger(TICKET_KEY_SECONDS, now)) {
            self.previous = self.current.take();
        }
        if self.previous.as_ref().is_some_and(|key| !key.is_younger(TICKET_SECONDS, now)) {
            self.previous = None;
        }
    }
}

impl TicketKey {
    /// A key from the future is not: after a clock was put back, it would live for too long.
    fn is_younger(&self, seconds: u32, now: Timestamp) -> bool {
        self.born <= now && now < self.born.plus_seconds(u64::from(seconds))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.with(|keys, now| {
            if keys.current.is_none() {
                // Without randomness there is no ticket; the handshake goes on.
                let ticketer = aws_lc_rs::Ticketer::new().ok()?;
                keys.current = Some(TicketKey { born: now, ticketer });
            }
            keys.current.as_ref()?.ticketer.encrypt(plain)
        })
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.with(|keys, _| {
            let mut readers = keys.current.iter().chain(&keys.previous);
            readers.find_map(|key| key.ticketer.decrypt(cipher))
        })
    }
}

/// Half an hour in use and half an hour to be read, so a ticket lives for an hour at most. Shorter
/// than anyone keeps a TLS 1.2 recording in the hope for its ticket key.
const TICKET_KEY_SECONDS: u32 = 30 * 60;
/// What clients are told.
const TICKET_SECONDS: u32 = 2 * TICKET_KEY_SECONDS;
