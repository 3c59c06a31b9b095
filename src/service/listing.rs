//! The secrets that a caller may see, by pages.

use std::collections::BTreeSet;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Caller, Page, SecretView, Secrets, cursors::List, keyring::DomainKeys, secrets::view};
use crate::{
    domain::{Error, NotedDecision, SecretPath, Timestamp},
    iam::{Action, ListScope, PathRange, ROOT, Rights},
    store::SecretWithVersion,
};

impl Secrets {
    /// Secrets by path, up to `size`, with their current versions but without data: those that the
    /// caller may get, and nothing of the others. A page ends earlier where custom metadata would make
    /// it very large; it is never empty where another one follows.
    ///
    /// Many lists at once take turns, look by look, so that a long search holds up no short one. The
    /// caller's rights are those that it has when its first turn comes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the cursor does not count here; or when storage fails.
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
        let (turn, renewed) = self.first_turn(caller).await?;
        let caller = renewed.as_ref().unwrap_or(caller);
        let rights = caller.rights();
        let (ranges, is_root) = match rights.scope(Action::SecretGet) {
            ListScope::All => (vec![PathRange::all()], true),
            ListScope::Ranges(ranges) => (ranges, false),
        };
        let allowed = !ranges.is_empty();
        // One more than asked for tells whether a next page has anything in it.
        let mut search = Search::new(self, caller, &rights, turn, size + 1);
        for range in ranges {
            let rest = match &after {
                Some(after) => range.after(after),
                None => Some(range),
            };
            if let Some(range) = rest {
                search.take_visible(range).await?;
            }
        }
        caller.trail().note_decision(noted(&search.deciding, allowed, is_root));
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

    /// Waits until a list may begin, and gives the caller as it is by then, where that took time.
    pub(super) async fn first_turn(
        &self,
        caller: &Caller,
    ) -> Result<(SemaphorePermit<'_>, Option<Caller>), Error> {
        match self.lists.try_acquire() {
            Ok(turn) => Ok((turn, None)),
            Err(_) => Ok((turn(&self.lists).await?, Some(caller.renewed().await?))),
        }
    }
}

/// A search for the secrets of one page.
struct Search<'a> {
    secrets: &'a Secrets,
    caller: &'a Caller,
    rights: &'a Rights<'a>,
    now: Timestamp,
    /// The first turn, until it is used.
    first_turn: Option<SemaphorePermit<'a>>,
    /// How many secrets are enough.
    wanted: usize,
    found: Vec<SecretView>,
    /// What allows what was found: the names of policies, or root.
    deciding: BTreeSet<&'a str>,
}

impl<'a> Search<'a> {
    fn new(
        secrets: &'a Secrets,
        caller: &'a Caller,
        rights: &'a Rights<'a>,
        first_turn: SemaphorePermit<'a>,
        wanted: u32,
    ) -> Self {
        Self {
            secrets,
            caller,
            rights,
            now: secrets.clock.now(),
            first_turn: Some(first_turn),
            wanted: wanted as usize,
            found: Vec::new(),
            deciding: BTreeSet::new(),
        }
    }

    /// Takes the secrets of a range that the caller may see, until they are enough.
    async fn take_visible(&mut self, range: PathRange) -> Result<(), Error> {
        let mut rest = Some(range);
        // Rows that cannot be read have no path to go on after, so more are asked for at once.
        let mut unreadable = 0;
        while let Some(range) = rest.take().filter(|_| !self.is_done()) {
            let limit = self.wanted - self.found.len() + unreadable;
            let sql_limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let turn = self.turn().await?;
            let (secrets, okms_id) = (self.secrets, self.caller.okms_id());
            let fetch = || secrets.store.list_secrets(okms_id, &range, sql_limit);
            let (batch, keys) = secrets.with_keys(self.caller, fetch).await?;
            let is_last = batch.len() < limit;
            let path = |found: &SecretWithVersion| found.secret.record.secret.path.clone();
            let Some(last) = batch.iter().flatten().last().map(path) else {
                unreadable = more_than(unreadable)?;
                rest = Some(range).filter(|_| !is_last);
                continue;
            };
            unreadable = 0;
            let found_before = self.found.len();
            for found in batch {
                if found.as_ref().is_ok_and(|found| !self.is_visible(&path(found))) {
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
    async fn skip_hidden(&mut self, range: PathRange) -> Result<Option<PathRange>, Error> {
        let mut rest = Some(range);
        let mut unreadable = 0;
        while let Some(range) = rest.take() {
            let _turn = self.turn().await?;
            let okms_id = self.caller.okms_id();
            let limit = SKIPPED_PATHS + unreadable;
            let sql_limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let paths = self.secrets.store.list_paths(okms_id, &range, sql_limit).await?;
            if let Some(visible) = paths.iter().flatten().find(|path| self.is_visible(path)) {
                let from = visible.as_str().to_owned();
                return Ok(Some(PathRange { from, to: range.to }));
            }
            if paths.len() < limit {
                break;
            }
            rest = match paths.iter().flatten().last() {
                Some(last) => range.after(last),
                None => {
                    unreadable = more_than(unreadable)?;
                    Some(range)
                }
            };
        }
        Ok(None)
    }

    /// Waits until this search may look at rows again, and keeps others waiting while it does.
    async fn turn(&mut self) -> Result<SemaphorePermit<'a>, Error> {
        match self.first_turn.take() {
            Some(turn) => Ok(turn),
            None => turn(&self.secrets.lists).await,
        }
    }

    fn is_visible(&mut self, path: &SecretPath) -> bool {
        let decision = self.rights.decide(Action::SecretGet, Some(path));
        if decision.is_allowed() {
            self.deciding.extend(decision.decided_by());
        }
        decision.is_allowed()
    }

    /// Whether there is enough for a page, by number or by size.
    fn is_done(&self) -> bool {
        self.found.len() >= self.wanted || fitting(&self.found) < self.found.len()
    }
}

/// One decision for the record of a whole list, by what allowed the items of it: allowed where there could be
/// anything to see.
pub(super) fn noted(deciding: &BTreeSet<&str>, allowed: bool, is_root: bool) -> NotedDecision {
    let names: Vec<_> = deciding.iter().take(NOTED_POLICIES).copied().collect();
    let decided_by = match names.as_slice() {
        [] if is_root => Some(ROOT.to_owned()),
        [] => None,
        names => Some(names.join(", ")),
    };
    NotedDecision { action: Action::SecretGet.as_str(), allowed, decided_by }
}

/// Waits for one of the turns, which come in the order in which they were asked for.
pub(super) async fn turn(lists: &Semaphore) -> Result<SemaphorePermit<'_>, Error> {
    lists.acquire().await.map_err(|_| Error::Internal("nobody closes the semaphore".into()))
}

/// A secret of a list, without data. One that does not verify is left out: it must not keep the others
/// from being listed.
fn listed(
    keys: &DomainKeys,
    found: Result<SecretWithVersion, Error>,
    now: Timestamp,
) -> Option<SecretView> {
    let verified = found.and_then(|found| {
        let path = found.secret.record.secret.path.clone();
        keys.verify_found(&path, found, None)
    });
    match verified {
        Ok((secret, version)) => Some(SecretView {
            secret: secret.secret,
            version: version.map(|stored| view(stored.record.version, now)),
        }),
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

/// Lists that look at rows at a time, in all: each may hold some 20 MiB of rows, if someone has filled all
/// the custom metadata there can be, and must not keep single reads from the few connections there are.
pub(super) const CONCURRENT_LISTS: usize = 3;
/// Custom metadata on one page: 26 secrets may fill it, others have a few hundred bytes each.
const MAX_PAGE_METADATA_BYTES: usize = 1024 * 1024;
/// Paths that are looked at in one go: a few milliseconds of work, and half a megabyte.
const SKIPPED_PATHS: usize = 2_000;
/// Names of policies in the record of a list: enough to see where the rights come from.
const NOTED_POLICIES: usize = 10;
/// Where the rows at hand cannot be read, this many more are asked for, and twice as many each time.
const LEAST_UNREADABLE: usize = 100;
/// Rows in a row that a list passes over: somebody has damaged far more than a list could tell about.
const MAX_UNREADABLE: usize = 10_000;
