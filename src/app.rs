//! Joins the parts into a running server.
//!
//! The command line and the tests start the same thing here; only where keys, certificates, time and
//! sockets come from differs.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    api::{ApiState, api_router, docs_router},
    domain::Clock,
    server::{self, Limits, TlsMaterial, api_tls, docs_tls},
    service::{Authentication, Keyring, Keys, Secrets},
    store::Store,
};

/// What a server is made of.
pub struct AppOptions {
    /// The database.
    pub store: Store,
    /// The keys of its domains.
    pub keyring: Arc<Keyring>,
    /// Where "now" comes from: for versions, credentials and certificates alike.
    pub clock: Arc<dyn Clock>,
    /// The server's certificate and the authorities of access certificates.
    pub tls: TlsMaterial,
    /// Whether a handshake without client certificate fails, so that the caller does not even get a
    /// 401.
    pub require_client_certificate: bool,
    /// Limits of each listener.
    pub limits: Limits,
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
    store: Store,
    shutdown: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl RunningApp {
    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// When certificates or keys cannot be used, or a socket has no address.
    pub fn start(options: AppOptions) -> Result<Self, server::Error> {
        let api_config =
            api_tls(&options.tls, options.require_client_certificate, options.clock.clone())?;
        let docs_config = docs_tls(&options.tls, options.clock.clone())?;
        let address = |listener: &TcpListener| {
            let address: io::Result<SocketAddr> = listener.local_addr();
            address.map_err(|error| server::Error::new(format!("a listener's address: {error}")))
        };
        let api_address = address(&options.api_listener)?;
        let docs_address = options.docs_listener.as_ref().map(address).transpose()?;

        let (store, keyring, clock) = (options.store, options.keyring, options.clock);
        let keys = Keys::new(store.clone(), keyring.clone(), clock.clone());
        let state = ApiState {
            authentication: Authentication::new(store.clone(), keyring.clone(), clock.clone()),
            secrets: Secrets::new(store.clone(), keyring, clock),
        };
        let (shutdown, told) = watch::channel(false);
        let mut listeners = JoinSet::new();
        listeners.spawn(keys.keep_rewrapped(until_told(told.clone())));
        listeners.spawn(server::serve(
            options.api_listener,
            api_config,
            api_router(state),
            options.limits.clone(),
            until_told(told.clone()),
        ));
        if let Some(listener) = options.docs_listener {
            let limits = options.limits;
            let docs = docs_router(&options.api_url);
            listeners.spawn(server::serve(listener, docs_config, docs, limits, until_told(told)));
        }
        Ok(Self { api_address, docs_address, store, shutdown, listeners })
    }

    /// Stops to accept, lets requests under way finish, and closes the store.
    pub async fn shutdown(mut self) {
        self.shutdown.send_replace(true);
        while let Some(ended) = self.listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended by a panic");
            }
        }
        if tokio::time::timeout(CLOSING_TIME, self.store.close()).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
    }
}

/// How long the database may take to close. What is acknowledged is safe by then; a database server
/// that does not answer must not keep this one from ending.
const CLOSING_TIME: Duration = Duration::from_secs(15);

async fn until_told(mut told: watch::Receiver<bool>) {
    // An error means that the sender is gone: the server was dropped.
    let _ = told.wait_for(|told| *told).await;
}
