//! The TLS settings in use, replaced as a whole while the server runs.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{ServerConfig, sign::CertifiedKey};
use tokio::sync::watch;

use super::{
    ConnectionCounts, Error, TlsMaterial,
    counts::Counts,
    revocation::Stale,
    status::{CertificateExpiry, CertificateKind, CertificateStatus, check_chain},
    tls::{self, provider},
    trust::{TrustSet, sha256},
};
use crate::domain::{Clock, Timestamp};

/// The TLS settings of both listeners.
///
/// A handshake uses those of its beginning; a request, whatever its connection began with, is checked
/// against the authorities and lists of its own time.
pub struct LiveTls {
    clock: Arc<dyn Clock>,
    require_client_certificate: bool,
    current: RwLock<Arc<Loaded>>,
    /// Held by whoever makes the next set, so that two do not get one epoch. Not the lock of `current`:
    /// large lists take seconds to read, and handshakes must not wait for that.
    replacing: Mutex<()>,
    /// That of `current`, to be read without its lock.
    epoch: AtomicU64,
    status: watch::Sender<Arc<CertificateStatus>>,
    /// Of each listener.
    api_counts: Counts,
    docs_counts: Counts,
}

/// One set of settings.
struct Loaded {
    /// How many sets there were before.
    epoch: u64,
    trust: Arc<TrustSet>,
    api: Arc<ServerConfig>,
    docs: Arc<ServerConfig>,
    /// The server's own.
    key: Arc<CertifiedKey>,
    status: Arc<CertificateStatus>,
    digest: [u8; 32],
}

impl LiveTls {
    /// Starts with `material`.
    ///
    /// # Errors
    ///
    /// If a text can't be read, key and certificate do not belong together, there is no authority, or a
    /// revocation list can't be used.
    pub fn new(
        material: &TlsMaterial,
        require_client_certificate: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Error> {
        let key = Arc::new(tls::certified_key(material)?);
        let loaded = load(material, key, require_client_certificate, &clock, Stale::RefusesSet, 0)?;
        loaded.status.log();
        let status = watch::Sender::new(loaded.status.clone());
        Ok(Arc::new(Self {
            clock,
            require_client_certificate,
            current: RwLock::new(Arc::new(loaded)),
            replacing: Mutex::new(()),
            epoch: AtomicU64::new(0),
            status,
            api_counts: Counts::default(),
            docs_counts: Counts::default(),
        }))
    }

    /// Puts `material` in the place of what is in use; says whether that changed anything.
    ///
    /// Open connections go on. Tickets of the set before are worthless from then on, and each request
    /// is checked against the new authorities and lists. A stale list refuses the clients of its issuer,
    /// and nothing else.
    ///
    /// # Errors
    ///
    /// As [`LiveTls::new`], but for stale lists; nothing is changed then. And where another server certificate than the
    /// present one has ended or is not valid yet: the present one stays, and new authorities and lists count.
    pub fn replace(&self, material: &TlsMaterial) -> Result<bool, Error> {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.loaded();
        let epoch = current.epoch + 1;
        let required = self.require_client_certificate;
        let key = Arc::new(tls::certified_key(material)?);
        // The one in use may have ended.
        let checked = match key.cert == current.key.cert {
            true => Ok(()),
            false => check_chain(&key.cert, self.clock.now()),
        };
        // A revocation must not wait for it.
        let key = if checked.is_ok() { key } else { Arc::clone(&current.key) };
        let loaded = load(material, key, required, &self.clock, Stale::RefusesClients, epoch)?;
        if loaded.digest == current.digest {
            return checked.map(|()| false);
        }
        loaded.status.log();
        loaded.status.log_stale(self.clock.now());
        let status = loaded.status.clone();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        self.epoch.store(epoch, Ordering::Release);
        self.status.send_replace(status);
        checked.map(|()| true)
    }

    /// For the listener of the API, which asks for client certificates.
    pub fn api(self: &Arc<Self>) -> ListenerTls {
        ListenerTls { live: self.clone(), listener: Listener::Api }
    }

    /// For the listener of the documentation: the same server certificate, no client certificates.
    pub fn docs(self: &Arc<Self>) -> ListenerTls {
        ListenerTls { live: self.clone(), listener: Listener::Docs }
    }

    /// The certificates and lists in use, and a way to wait for their change.
    pub fn status(&self) -> watch::Receiver<Arc<CertificateStatus>> {
        self.status.subscribe()
    }

    /// What became of the connections of each listener, by its name.
    pub fn connections(&self) -> [(&'static str, ConnectionCounts); 2] {
        [("api", self.api_counts.read()), ("docs", self.docs_counts.read())]
    }

    /// How often the settings were replaced.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The authorities and lists in use, and the epoch that they belong to.
    pub(super) fn trust(&self) -> (u64, Arc<TrustSet>) {
        let loaded = self.loaded();
        (loaded.epoch, loaded.trust.clone())
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTls").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

/// The TLS settings of one listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    live: Arc<LiveTls>,
    listener: Listener,
}

#[derive(Debug, Clone, Copy)]
enum Listener {
    Api,
    Docs,
}

impl ListenerTls {
    /// The settings for a handshake that begins now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let loaded = self.live.loaded();
        match self.listener {
            Listener::Api => loaded.api.clone(),
            Listener::Docs => loaded.docs.clone(),
        }
    }

    /// Where its connections are counted.
    pub(super) fn counts(&self) -> &Counts {
        match self.listener {
            Listener::Api => &self.live.api_counts,
            Listener::Docs => &self.live.docs_counts,
        }
    }

    /// All settings.
    pub(super) const fn live(&self) -> &Arc<LiveTls> {
        &self.live
    }
}

/// The TLS of an API: see [`LiveTls`].
///
/// # Errors
///
/// As [`LiveTls::new`].
pub fn api_tls(
    material: &TlsMaterial,
    require_client_certificate: bool,
    clock: Arc<dyn Clock>,
) -> Result<ListenerTls, Error> {
    Ok(LiveTls::new(material, require_client_certificate, clock)?.api())
}

/// Verifies a client's certificate, PEM, its own first, as the server would at `now`, and gives what it
/// says.
///
/// # Errors
///
/// Why it would be refused.
pub fn check_client_certificate(
    material: &TlsMaterial,
    chain_pem: &str,
    now: Timestamp,
) -> Result<crate::domain::PeerCertificate, Error> {
    let chain = super::material::certificates(chain_pem, "certificate")?;
    let trust = TrustSet::new(material, &provider(), Stale::RefusesClients, now)?;
    trust.verify(&chain, now).map_err(|error| Error::new(format!("certificate: {error}")))
}

fn load(
    material: &TlsMaterial,
    key: Arc<CertifiedKey>,
    require_client_certificate: bool,
    clock: &Arc<dyn Clock>,
    stale: Stale,
    epoch: u64,
) -> Result<Loaded, Error> {
    let provider = provider();
    let trust = Arc::new(TrustSet::new(material, &provider, stale, clock.now())?);
    let mut all = Vec::from(trust.digest());
    all.extend(key.cert.iter().flat_map(|der| sha256(der)));
    let mut certificates: Vec<CertificateExpiry> = Vec::new();
    let server = key.cert.first();
    certificates.extend(
        server.and_then(|der| {
            CertificateExpiry::of(CertificateKind::Server, "server certificate", der)
        }),
    );
    certificates.extend_from_slice(trust.expiries());
    let api =
        tls::api_config(&trust, require_client_certificate, key.clone(), &provider, clock.clone())?;
    let docs = tls::docs_config(key.clone(), &provider, clock.clone())?;
    let status = Arc::new(CertificateStatus { certificates });
    Ok(Loaded { epoch, trust, api, docs, key, status, digest: sha256(&all) })
}
