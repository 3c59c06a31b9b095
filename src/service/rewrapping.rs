//! What a server does after a rotation of keys, for as long as it runs.

use std::time::Duration;

use tokio::time::Instant;

use super::{Keys, RewrapReport, troubles::Troubles};
use crate::domain::Error;

impl Keys {
    /// Seals anew what rotations have left, for as long as the server runs.
    pub async fn keep_rewrapped(self, until: impl Future<Output = ()>) {
        tokio::select! {
            () = until => {}
            () = self.rewrap_again_and_again() => {}
        }
    }

    async fn rewrap_again_and_again(&self) {
        let (mut seen, mut next, mut troubles) = (None, Instant::now(), Troubles::default());
        loop {
            // Where the store cannot be asked, requests find that out and say so.
            let revision = self.store.key_revision().await.ok();
            let is_changed = revision != seen;
            if revision.is_some() && (is_changed || next <= Instant::now()) {
                seen = revision;
                let done = self.rewrap_all(&mut troubles, is_changed).await;
                let again = match done {
                    Ok(()) => RECHECK_INTERVAL,
                    Err(error) => {
                        tracing::warn!(?error, "sealing anew is interrupted, trying again");
                        RETRY_INTERVAL
                    }
                };
                next = Instant::now() + again;
                next = troubles.next_due().map_or(next, |due| due.min(next));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Seals anew all that is due. Where keys have changed, that is all there is: the change may be what
    /// mends a domain.
    async fn rewrap_all(&self, troubles: &mut Troubles, is_changed: bool) -> Result<(), Error> {
        self.keyring.forget_deleted().await?;
        let domains = self.store.list_domains_with_old_keys().await?;
        troubles.retain(&domains);
        for okms_id in domains {
            if !is_changed && !troubles.is_due(okms_id, Instant::now()) {
                continue;
            }
            // One domain with a damaged key must not keep those after it waiting for ever.
            let (what, versions, destroyed) = match self.rewrap(okms_id, |_| ()).await {
                Ok(report) => (trouble(&report), report.versions, report.destroyed),
                Err(error) => (Some(format!("cannot be sealed anew now: {error:?}")), 0, 0),
            };
            if versions > 0 || destroyed > 0 {
                tracing::info!(%okms_id, versions, destroyed, "sealed anew under the newest key");
            }
            match what {
                None => troubles.end(okms_id),
                Some(what) => {
                    if troubles.note(okms_id, what.clone(), Instant::now()) {
                        tracing::error!(%okms_id, error = what, "an old key is kept");
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a domain of which not all could be sealed anew, if anything is.
fn trouble(report: &RewrapReport) -> Option<String> {
    let version = report.refused.first().map(|(path, version)| {
        let version =
            version.map_or("its row".to_owned(), |version| format!("version {}", version.get()));
        format!("{version} of the secret {path} does not open under any key of its domain")
    });
    let unreadable = report.unreadable.first();
    let unreadable =
        unreadable.map(|position| format!("the path of the secret {position} cannot be read"));
    let found: Vec<_> = version.into_iter().chain(unreadable).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// How often a server looks whether keys have changed: one small read.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often it looks for old keys though nothing has changed: a replica that was to seal anew may have
/// ended in the middle.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits where storage failed; a single domain waits as [`Troubles`] say.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
