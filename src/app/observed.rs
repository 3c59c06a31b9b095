//! A running server as monitoring sees it.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    api::{Rates, RequestCounts, RequestMeasures},
    audit::AuditLog,
    domain::{Clock, Error},
    measure::FindsMeasured,
    server::{CertificateKind, CertificateStatus, ConnectionCounts, LiveTls},
    service::{KeyOperations, Keyring, PolicyCache},
    store::{KeyMeasures, Store, StoreMeasures},
};

/// What monitoring looks at of a running server. It may outlive the server, which then is not ready.
#[derive(Clone)]
pub struct Observed {
    pub(super) store: Store,
    pub(super) keyring: Arc<Keyring>,
    pub(super) audit: AuditLog,
    pub(super) tls: Arc<LiveTls>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tokens: bool,
    pub(super) requests: Arc<RequestCounts>,
    pub(super) policies: Arc<PolicyCache>,
    pub(super) rates: Arc<Rates>,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// Whether a server can do its work now: each check by its name, and why one has failed. The reasons are fixed
/// words, as anybody may read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// In a fixed order.
    pub checks: [(&'static str, Result<(), &'static str>); 5],
}

/// A store as monitoring sees it.
#[derive(Debug, Clone)]
pub struct StoreObserved {
    /// What is known without asking the database.
    pub present: StoreMeasures,
    /// Bytes that it takes on the disk, where it answers.
    pub database_bytes: Option<u64>,
    /// The keys of all domains, where it answers.
    pub keys: Option<KeyMeasures>,
    /// Whether this server has the store key that the store has now, where it answers.
    pub store_key_is_current: Option<bool>,
}

impl Readiness {
    /// Whether no check has failed.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|(_, outcome)| outcome.is_ok())
    }
}

impl Observed {
    /// Looks whether the server can do its work. Takes [`CHECK_TIME`] at most for each of store and keys.
    pub async fn readiness(&self) -> Readiness {
        let store = check("store", self.store.key_revision()).await;
        let keys = match store {
            true if check("keys", self.keyring.opens_all_keys(self.tokens, PATIENCE)).await => {
                Ok(())
            }
            true => Err("a key in use does not open with the root key at hand, or not in time"),
            false => Err("not known, as the store does not answer"),
        };
        let store = if store { Ok(()) } else { Err("no answer, or not in time") };
        let serving = if *self.shutdown.borrow() { Err("shutting down") } else { Ok(()) };
        let audit = if self.audit.is_ready() { Ok(()) } else { Err("records cannot be written") };
        Readiness {
            checks: [
                ("server", serving),
                ("store", store),
                ("keys", keys),
                ("audit", audit),
                ("certificate", self.server_certificate()),
            ],
        }
    }

    /// The certificates and revocation lists in use.
    pub fn certificates(&self) -> Arc<CertificateStatus> {
        self.tls.status().borrow().clone()
    }

    /// The store, where it answers in time.
    pub async fn store(&self) -> StoreObserved {
        let (bytes, keys, is_current) = tokio::join!(
            timeout(CHECK_TIME, self.store.database_bytes()),
            timeout(CHECK_TIME, self.store.key_measures()),
            timeout(CHECK_TIME, self.keyring.is_current())
        );
        StoreObserved {
            present: self.store.measures(),
            database_bytes: bytes.ok().and_then(Result::ok),
            keys: keys.ok().and_then(Result::ok),
            store_key_is_current: is_current.ok().and_then(Result::ok),
        }
    }

    /// What became of the connections of each listener, by its name.
    pub fn connections(&self) -> [(&'static str, ConnectionCounts); 2] {
        self.tls.connections()
    }

    /// The requests of the API since the start, by operation.
    pub fn requests(&self) -> Vec<RequestMeasures> {
        self.requests.measured()
    }

    /// How often the keys were used since the start.
    pub fn key_operations(&self) -> KeyOperations {
        self.keyring.operations()
    }

    /// What was found in memory since the start, and what was not, by what it is of.
    pub fn finds(&self) -> Vec<(&'static str, FindsMeasured)> {
        let own = [("keys", self.keyring.finds()), ("policies", self.policies.finds())];
        self.store.finds().into_iter().chain(own).collect()
    }

    /// Requests beyond the rate of their caller, by the setting.
    pub fn refused_requests(&self) -> [(&'static str, u64); 3] {
        self.rates.refused()
    }

    /// The audit log.
    pub const fn audit(&self) -> &AuditLog {
        &self.audit
    }

    fn server_certificate(&self) -> Result<(), &'static str> {
        let (status, now) = (self.certificates(), self.clock.now());
        let mut all = status.certificates.iter();
        match all.find(|one| one.kind == CertificateKind::Server) {
            None => Err("it cannot be read"),
            Some(server) if now < server.begins => Err("it is not valid yet"),
            Some(server) if server.ends <= now => Err("it has ended"),
            Some(_) => Ok(()),
        }
    }
}

/// Whether `work` succeeds in time. The log gets the reason, which may name hosts and files.
async fn check<T>(name: &str, work: impl Future<Output = Result<T, Error>>) -> bool {
    match timeout(CHECK_TIME, work).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::debug!(check.name = name, ?error, "not ready");
            false
        }
        Err(_) => {
            tracing::debug!(check.name = name, "not ready: no answer in time");
            false
        }
    }
}

/// What a check may wait for: such reads take a millisecond, and probes wait for a few seconds only.
pub const CHECK_TIME: Duration = Duration::from_secs(2);
/// What the check of keys waits for a root key that was replaced: some of its time, as it looks then for what can be
/// served without. (One that comes from a command may take longer.)
const PATIENCE: Duration = Duration::from_secs(1);
