//! What a server does after a rotation of keys, for as long as it runs.

use std::{mem, time::Duration};

use tokio::time::Instant;

use super::{
    Keys, RewrapReport,
    troubles::{Kind, Troubles},
};
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
        let (mut schedule, mut troubles) = (Schedule::new(Instant::now()), Troubles::default());
        loop {
            // Where the store cannot be asked, requests find that out and say so.
            if let Ok(revision) = self.store.key_revision().await
                && schedule.begin(revision, Instant::now())
            {
                let done = self.rewrap_all(&mut troubles, schedule.is_changed()).await;
                if let Err(error) = &done {
                    tracing::warn!(?error, "sealing anew is interrupted, trying again");
                }
                schedule.end(done.is_ok(), troubles.next_due(), Instant::now());
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
            let (trouble, versions, destroyed) = match self.rewrap(okms_id, |_| ()).await {
                Ok(report) => (damage(&report), report.versions, report.destroyed),
                Err(error) => {
                    let what = format!("cannot be sealed anew now: {error:?}");
                    (Some((Kind::Failed(mem::discriminant(&error)), what)), 0, 0)
                }
            };
            if versions > 0 || destroyed > 0 {
                tracing::info!(%okms_id, versions, destroyed, "sealed anew under the newest key");
            }
            match trouble {
                None => troubles.end(okms_id),
                Some((kind, what)) => {
                    if troubles.note(okms_id, kind, Instant::now()) {
                        tracing::error!(%okms_id, error = what, "an old key is kept");
                    }
                }
            }
        }
        Ok(())
    }
}

/// When to look for what is to be sealed anew.
#[derive(Debug)]
struct Schedule {
    /// The revision of keys as of which it was last tried to look.
    tried: Option<i64>,
    /// The last one as of which all domains were looked at, whatever came of each.
    done: Option<i64>,
    /// When to look again though nothing has changed.
    next: Instant,
}

impl Schedule {
    const fn new(now: Instant) -> Self {
        Self { tried: None, done: None, next: now }
    }

    /// Whether to look now that keys are of this revision; then it begins.
    fn begin(&mut self, revision: i64, now: Instant) -> bool {
        let is_due = self.tried != Some(revision) || self.next <= now;
        self.tried = Some(revision);
        is_due
    }

    /// Whether keys have changed since all domains were looked at. A look that failed does not count: the
    /// domain that the change was to mend would be left alone for as long as it was in trouble before.
    fn is_changed(&self) -> bool {
        self.tried != self.done
    }

    /// Notes how the look ended, and when the next of the domains in trouble is due.
    fn end(&mut self, done: bool, due: Option<Instant>, now: Instant) {
        if !done {
            self.next = now + RETRY_INTERVAL;
            return;
        }
        self.done = self.tried;
        let next = now + RECHECK_INTERVAL;
        self.next = due.map_or(next, |due| due.min(next));
    }
}

/// What is wrong with a domain of which not all could be sealed anew, if anything is.
fn damage(report: &RewrapReport) -> Option<(Kind, String)> {
    let version = report.refused.first().map(|(path, version)| {
        let version =
            version.map_or("its row".to_owned(), |version| format!("version {}", version.get()));
        format!("{version} of the secret {path} does not open under any key of its domain")
    });
    let unreadable = report.unreadable.first();
    let unreadable =
        unreadable.map(|position| format!("the path of the secret {position} cannot be read"));
    let kind = Kind::Damaged { rows: version.is_some(), paths: unreadable.is_some() };
    let found: Vec<_> = version.into_iter().chain(unreadable).collect();
    (!found.is_empty()).then(|| (kind, found.join("; ")))
}

/// How often a server looks whether keys have changed: one small read.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often it looks for old keys though nothing has changed: a replica that was to seal anew may have
/// ended in the middle.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits where storage failed; a single domain waits as [`Troubles`] say.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_storage_was_too_ill_to_follow_is_followed_later() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert!(schedule.begin(1, now) && schedule.is_changed());
        schedule.end(true, None, now);
        assert!(!schedule.begin(1, now + RETRY_INTERVAL), "nothing is new");
        assert!(schedule.begin(2, now) && schedule.is_changed());
        schedule.end(false, None, now);
        assert!(!schedule.begin(2, now + LOOK_INTERVAL), "storage is given a while");
        now += RETRY_INTERVAL;
        assert!(schedule.begin(2, now) && schedule.is_changed(), "nothing has followed it yet");
        schedule.end(false, Some(now), now);
        assert!(!schedule.begin(2, now), "a domain in trouble waits for storage too");
        now += RETRY_INTERVAL;
        assert!(schedule.begin(2, now) && schedule.is_changed());
        schedule.end(true, None, now);
        now += RECHECK_INTERVAL;
        assert!(schedule.begin(2, now) && !schedule.is_changed());
        schedule.end(true, Some(now + LOOK_INTERVAL), now);
        assert!(schedule.begin(2, now + LOOK_INTERVAL), "a domain in trouble is due");
    }
}
