//! What a server does after a rotation of keys, for as long as it runs.

use std::time::Duration;

use tokio::time::Instant;

use super::{Keys, RewrapReport};
use crate::domain::{Error, OkmsId, VersionId};

impl Keys {
    /// Seals anew what rotations have left, for as long as the server runs.
    pub async fn keep_rewrapped(self, until: impl Future<Output = ()>) {
        tokio::select! {
            () = until => {}
            () = self.rewrap_again_and_again() => {}
        }
    }

    async fn rewrap_again_and_again(&self) {
        let (mut seen, mut next) = (None, Instant::now());
        loop {
            // Where the store cannot be asked, requests find that out and say so.
            let revision = self.store.key_revision().await.ok();
            if revision.is_some() && (revision != seen || next <= Instant::now()) {
                seen = revision;
                let again = match self.rewrap_all().await {
                    Ok(()) => RECHECK_INTERVAL,
                    Err(error) => {
                        tracing::warn!(?error, "sealing anew is interrupted, trying again");
                        RETRY_INTERVAL
                    }
                };
                next = Instant::now() + again;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn rewrap_all(&self) -> Result<(), Error> {
        self.keyring.forget_deleted().await?;
        let mut failed = Ok(());
        for okms_id in self.store.list_domains_with_old_keys().await? {
            // One domain with a damaged key must not keep those after it waiting for ever.
            match self.rewrap(okms_id, |_| ()).await {
                Ok(report) => log(okms_id, &report),
                Err(error) => {
                    tracing::warn!(%okms_id, ?error, "a domain cannot be sealed anew now");
                    failed = Err(error);
                }
            }
        }
        failed
    }
}

/// Says what came of sealing a domain anew.
fn log(okms_id: OkmsId, report: &RewrapReport) {
    let (versions, destroyed) = (report.versions, report.destroyed);
    if versions > 0 || destroyed > 0 {
        tracing::info!(%okms_id, versions, destroyed, "sealed anew under the newest key");
    }
    if let Some((path, version)) = report.refused.first() {
        let (path, version) = (path.as_str(), version.map(VersionId::get));
        tracing::error!(
            %okms_id, secret.path = path, version.id = version,
            "data does not open under any key of its domain; an old key is kept for it"
        );
    }
    if let Some(position) = report.unreadable.first() {
        tracing::error!(
            %okms_id, secret.id = position,
            "the path of a secret cannot be read; an old key is kept for it"
        );
    }
}

/// How often a server looks whether keys have changed: one small read.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often it looks for old keys though nothing has changed: a replica that was to seal anew may have
/// ended in the middle.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits where storage failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
