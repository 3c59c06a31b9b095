//! The secrets that a caller may see, by pages.

use super::{
    Caller, Page, SecretView, Secrets,
    cursors::List,
    keyring::DomainKeys,
    secrets::view,
    sight::Sight,
    turns::{Attempt, Attempts, Stop},
};
use crate::{
    domain::{Error, SecretPath, Timestamp},
    iam::PathRange,
    store::SecretWithVersion,
};

impl Secrets {
    /// Secrets by path, up to `size`, with their current versions but without data: those that the
    /// caller may get, and nothing of the others. A page ends earlier where custom metadata would make
    /// it very large; it is never empty where another one follows.
    ///
    /// Many lists at once take turns, look by look, so that a long search holds up no short one. One whose
    /// caller has other rights when its turn comes begins anew with them.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the cursor does not count here; [`Error::Unauthenticated`] where the caller
    /// counts no more when its turn comes; or when storage fails.
    pub async fn list(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
        size: u32,
    ) -> Result<Page<SecretView>, Error> {
        caller.note_resource(None);
        let after = match cursor {
            Some(cursor) => {
                let last = self.keyring.open_cursor(caller, List::Secrets, cursor).await?;
                let broken = |_| Error::Internal("a cursor of ours holds no path".into());
                Some(SecretPath::parse(&last).map_err(broken)?)
            }
            None => None,
        };
        let mut attempts = Attempts::of(caller);
        loop {
            let page = self.try_list(attempts.caller(), after.as_ref(), size).await;
            if let Some(page) = attempts.end(page)? {
                return Ok(page);
            }
        }
    }

    async fn try_list(
        &self,
        caller: &Caller,
        after: Option<&SecretPath>,
        size: u32,
    ) -> Result<Page<SecretView>, Stop> {
        // One more than asked for tells whether a next page has anything in it.
        let mut search = Search::new(self, caller, size + 1);
        for range in search.sight.ranges() {
            let rest = match after {
                Some(after) => range.after(after),
                None => Some(range),
            };
            if let Some(range) = rest {
                search.take_visible(range).await?;
            }
        }
        let mut items = search.found;
        let fitting = items.len().min(size as usize).min(fitting(&items));
        let more = items.len() > fitting;
        items.truncate(fitting);
        let next = match items.last().filter(|_| more) {
            Some(last) => {
                let last = last.secret.path.as_str();
                Some(self.keyring.seal_cursor(caller, List::Secrets, last).await?)
            }
            None => None,
        };
        Ok(Page { items, next })
    }
}

/// A search for the secrets of one page.
struct Search<'a> {
    secrets: &'a Secrets,
    caller: &'a Caller,
    sight: Sight<'a>,
    attempt: Attempt<'a>,
    now: Timestamp,
    /// How many secrets are enough.
    wanted: usize,
    found: Vec<SecretView>,
}

impl<'a> Search<'a> {
    fn new(secrets: &'a Secrets, caller: &'a Caller, wanted: u32) -> Self {
        Self {
            secrets,
            caller,
            sight: Sight::of(caller),
            attempt: Attempt::new(secrets, caller),
            now: secrets.clock.now(),
            wanted: wanted as usize,
            found: Vec::new(),
        }
    }

    /// Takes the secrets of a range that the caller may see, until they are enough.
    async fn take_visible(&mut self, range: PathRange) -> Result<(), Stop> {
        let mut rest = Some(range);
        // Rows that cannot be read have no path to go on after, so more are asked for at once.
        let mut unreadable = 0;
        while let Some(range) = rest.take().filter(|_| !self.is_done()) {
            let limit = self.wanted - self.found.len() + unreadable;
            let sql_limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let turn = self.attempt.look().await?;
            let (secrets, okms_id) = (self.secrets, self.caller.okms_id());
            let fetch = || secrets.store.list_secrets(okms_id, &range, sql_limit);
            let (batch, keys) = secrets.with_keys(self.caller, fetch).await?;
            let is_last = batch.len() < limit;
            let path = |found: &SecretWithVersion| found.secret.record.secret.path.clone();
            let Some(last) = batch.iter().flatten().last().map(path) else {
                if !is_last {
                    unreadable = more_than(unreadable)?;
                    rest = Some(range);
                }
                continue;
            };
            unreadable = 0;
            let found_before = self.found.len();
            for found in batch {
                if found.as_ref().is_ok_and(|found| !self.sight.sees(&path(found))) {
                    continue;
                }
                self.found.extend(listed(&keys, found, self.now));
            }
            rest = if is_last { None } else { range.after(&last) };
            if self.found.len() == found_before
                && let Some(range) = rest.take()
            {
                drop(turn);
                rest = self.skip_hidden(range).await?;
            }
        }
        Ok(())
    }

    /// The range from its first secret on that the caller may see. Only paths are looked at, so that
    /// a few secrets among many hidden ones are found soon.
    async fn skip_hidden(&mut self, range: PathRange) -> Result<Option<PathRange>, Stop> {
        let mut rest = Some(range);
        let mut unreadable = 0;
        while let Some(range) = rest.take() {
            let _turn = self.attempt.look().await?;
            let okms_id = self.caller.okms_id();
            let limit = SKIPPED_PATHS + unreadable;
            let sql_limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let paths = self.secrets.store.list_paths(okms_id, &range, sql_limit).await?;
            if let Some(visible) = paths.iter().flatten().find(|path| self.sight.sees(path)) {
                let from = visible.as_str().to_owned();
                return Ok(Some(PathRange { from, to: range.to }));
            }
            if paths.len() < limit {
                break;
            }
            rest = match paths.iter().flatten().last() {
                Some(last) => {
                    unreadable = 0;
                    range.after(last)
                }
                None => {
                    unreadable = more_than(unreadable)?;
                    Some(range)
                }
            };
        }
        Ok(None)
    }

    /// Whether there is enough for a page, by number or by size.
    fn is_done(&self) -> bool {
        self.found.len() >= self.wanted || fitting(&self.found) < self.found.len()
    }
}

/// A secret of a list, without data. One that does not verify is left out: it must not keep the others
/// from being listed.
fn listed(
    keys: &DomainKeys,
    found: Result<SecretWithVersion, Error>,
    now: Timestamp,
) -> Option<SecretView> {
    let verified = found.and_then(|found| {
        let path = &found.secret.record.secret.path;
        let (secret, version) = keys.verify_found(path, &found, None)?;
        let version = version.map(|stored| view(stored.record.version.clone(), now));
        Ok(SecretView { secret: secret.secret.clone(), version })
    });
    match verified {
        Ok(listed) => Some(listed),
        Err(error) => {
            tracing::error!(?error, "a secret is left out of a list");
            None
        }
    }
}

/// How many more rows to ask for where none of those at hand could be read.
pub(super) fn more_than(unreadable: usize) -> Result<usize, Error> {
    let more = (2 * unreadable).max(LEAST_UNREADABLE);
    let refused = || Error::Internal("too many secrets in a row cannot be read".into());
    (more <= MAX_UNREADABLE).then_some(more).ok_or_else(refused)
}

/// How many of these secrets make a page of a bearable size; at least one.
fn fitting(found: &[SecretView]) -> usize {
    let mut bytes = 0;
    let beyond = found.iter().position(|found| {
        bytes += found.secret.custom_metadata.len_bytes();
        bytes > MAX_PAGE_METADATA_BYTES
    });
    beyond.map_or(found.len(), |beyond| beyond.max(1))
}

/// Custom metadata on one page: 26 secrets may fill it, others have a few hundred bytes each.
const MAX_PAGE_METADATA_BYTES: usize = 1024 * 1024;
/// Paths that are looked at in one go: a few milliseconds of work, and half a megabyte.
const SKIPPED_PATHS: usize = 2_000;
/// Where the rows at hand cannot be read, this many more are asked for, and twice as many each time.
const LEAST_UNREADABLE: usize = 100;
/// Rows in a row that a list passes over: somebody has damaged far more than a list could tell about.
const MAX_UNREADABLE: usize = 10_000;
