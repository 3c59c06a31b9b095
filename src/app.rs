//! Joins the parts into a running server.
//!
//! The command line and the tests start the same thing here; only where keys, certificates, time and
//! sockets come from differs.

mod clock_watch;
mod observed;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use self::observed::{CHECK_TIME, Observed, Readiness, StoreObserved};
use crate::{
    api::{
        ApiLimits, ApiState, Rates, RequestCounts, Services, SpanQueue, api_router, docs_router,
    },
    audit::AuditLog,
    domain::Clock,
    server::{self, ExpiryWarnings, Limits, LiveTls, TlsMaterial},
    service::{Authentication, Credentials, Keyring, Keys, PolicyCache, Secrets, Tokens},
    store::Store,
};

/// What a server is made of.
pub struct AppOptions {
    /// The database.
    pub store: Store,
    /// Where requests are put for those who trace, if anybody does.
    pub spans: Option<SpanQueue>,
    /// The keys of its domains.
    pub keyring: Arc<Keyring>,
    /// Where each request is recorded. It ends with the server.
    pub audit: AuditLog,
    /// Where "now" comes from: for versions, credentials and certificates alike.
    pub clock: Arc<dyn Clock>,
    /// The server's certificate, the authorities of client certificates and what they revoked.
    pub tls: TlsMaterial,
    /// Whether a handshake without client certificate fails, so that the caller does not even get a
    /// 401.
    pub require_client_certificate: bool,
    /// Whether tokens are taken.
    pub tokens: bool,
    /// Limits of each listener.
    pub limits: Limits,
    /// Limits of requests.
    pub api_limits: ApiLimits,
    /// Where the API and the authenticated Swagger UI are served.
    pub api_listener: TcpListener,
    /// Where the public documentation is served, if it is.
    pub docs_listener: Option<TcpListener>,
    /// The API's address as clients write it, such as `https://okms.example:8443`.
    pub api_url: String,
}

/// A running server.
pub struct RunningApp {
    /// Where the API listens.
    pub api_address: SocketAddr,
    /// Where the public documentation listens.
    pub docs_address: Option<SocketAddr>,
    observed: Observed,
    shutdown: watch::Sender<bool>,
    listeners: JoinSet<()>,
    /// Ends with this value.
    background: JoinSet<()>,
}

impl RunningApp {
    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// When certificates or keys cannot be used, or a socket has no address.
    pub fn start(options: AppOptions) -> Result<Self, server::Error> {
        let required = options.require_client_certificate;
        let tls = LiveTls::new(&options.tls, required, options.clock.clone())?;
        let address = |listener: &TcpListener| {
            let address: io::Result<SocketAddr> = listener.local_addr();
            address.map_err(|error| server::Error::new(format!("a listener's address: {error}")))
        };
        let api_address = address(&options.api_listener)?;
        let docs_address = options.docs_listener.as_ref().map(address).transpose()?;

        let limits = options.api_limits;
        let store = options.store.with_secrets_per_domain(limits.secrets_per_domain);
        let store = store.with_queue_length(limits.database_queue);
        let (keyring, clock) = (options.keyring, options.clock);
        let mut background = JoinSet::new();
        let credentials = Credentials::new(store.clone(), clock.clone());
        background.spawn(clock_watch::watch_clock(clock.clone()));
        background.spawn(recount_secrets(store.clone()));
        background.spawn(warn_of_expiry(tls.clone(), credentials, clock.clone()));
        let keys = Keys::new(store.clone(), keyring.clone(), clock.clone());
        let (shutdown, told) = watch::channel(false);
        let policies = Arc::new(PolicyCache::new(store.clone()));
        let requests = Arc::new(RequestCounts::new());
        let rates = Rates::new(&limits, clock.clone());
        let observed = Observed {
            store: store.clone(),
            keyring: keyring.clone(),
            audit: options.audit.clone(),
            tls: tls.clone(),
            clock: clock.clone(),
            tokens: options.tokens,
            requests: Arc::clone(&requests),
            policies: Arc::clone(&policies),
            rates: rates.clone(),
            shutdown: told.clone(),
        };
        let authentication =
            Authentication::new(store.clone(), keyring.clone(), policies, clock.clone())
                .with_tokens(options.tokens);
        let tokens = Tokens::new(store.clone(), keyring.clone(), clock.clone());
        let secrets = Secrets::new(store.clone(), keyring, clock);
        let (audit, spans) = (options.audit, options.spans);
        let state = ApiState::new(Services {
            authentication,
            secrets,
            tokens,
            audit,
            requests,
            limits,
            spans,
        });
        let mut listeners = JoinSet::new();
        listeners.spawn(keys.keep_rewrapped(until_told(told.clone())));
        listeners.spawn(server::serve(
            options.api_listener,
            tls.api(),
            api_router(state, Arc::clone(&rates)),
            options.limits.clone(),
            until_told(told.clone()),
        ));
        if let Some(listener) = options.docs_listener {
            let limits = options.limits;
            let docs = docs_router(&options.api_url, rates);
            listeners.spawn(server::serve(listener, tls.docs(), docs, limits, until_told(told)));
        }
        Ok(Self { api_address, docs_address, observed, shutdown, listeners, background })
    }

    /// The TLS settings in use, to be replaced when their files change.
    pub const fn tls(&self) -> &Arc<LiveTls> {
        &self.observed.tls
    }

    /// What monitoring looks at.
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Stops to accept, lets requests under way finish, and closes audit log and store.
    pub async fn shutdown(mut self) {
        self.background.abort_all();
        self.shutdown.send_replace(true);
        while let Some(ended) = self.listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended by a panic");
            }
        }
        self.observed.audit.close().await;
        if tokio::time::timeout(CLOSING_TIME, self.observed.store.close()).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
    }
}

/// Warns of what ends soon: certificates and lists at the start, at each change and by the hour, as
/// lists may live for a day only; credentials once a day.
async fn warn_of_expiry(tls: Arc<LiveTls>, credentials: Credentials, clock: Arc<dyn Clock>) {
    let mut warnings = ExpiryWarnings::default();
    let mut status = tls.status();
    let mut hours = tokio::time::interval(HOUR);
    let mut days = tokio::time::interval(24 * HOUR);
    loop {
        let day = tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => false,
                // The server is gone.
                Err(_) => return,
            },
            _ = hours.tick() => false,
            _ = days.tick() => true,
        };
        let present = status.borrow_and_update().clone();
        warnings.warn(&present, clock.now());
        if day {
            match credentials.expiring().await {
                Ok(expiring) => expiring.iter().for_each(|credential| {
                    tracing::warn!(
                        credential.id = %credential.id,
                        okms.id = %credential.okms_id,
                        ends = credential.expires_at.to_rfc3339_seconds(),
                        "a credential ends soon"
                    );
                }),
                Err(error) => {
                    tracing::warn!(?error, "cannot look for credentials that end soon");
                }
            }
        }
    }
}

/// Counts the secrets of domains anew, where that may be wrong.
async fn recount_secrets(store: Store) {
    if let Err(error) = store.recount_secrets().await {
        tracing::warn!(?error, "secrets could not be counted anew");
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// How long the database may take to close. What is acknowledged is safe by then; a database server
/// that does not answer must not keep this one from ending.
const CLOSING_TIME: Duration = Duration::from_secs(15);

async fn until_told(mut told: watch::Receiver<bool>) {
    // An error means that the sender is gone: the server was dropped.
    let _ = told.wait_for(|told| *told).await;
}
