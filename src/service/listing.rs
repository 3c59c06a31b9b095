//! The secrets that a caller may see, by pages.

use std::collections::BTreeSet;

use super::{Caller, Page, SecretView, Secrets, secrets::view};
use crate::{
    domain::{Error, NotedDecision, SecretPath, Timestamp},
    iam::{Action, ListScope, PathRange, Rights},
    store::SecretWithVersion,
};

impl Secrets {
    /// Secrets by path, up to `size`, with their current versions but without data: those that the
    /// caller may get, and nothing of the others. A page ends earlier where custom metadata would make
    /// it very large; it is never empty where another one follows.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list(
        &self,
        caller: &Caller,
        after: Option<&SecretPath>,
        size: u32,
    ) -> Result<Page<SecretView, SecretPath>, Error> {
        caller.note_resource(None);
        let rights = caller.rights();
        let now = self.clock.now();
        let turn = self.lists.acquire().await;
        let _turn = turn.map_err(|_| Error::Internal("nobody closes the semaphore".into()))?;
        // One more than asked for tells whether a next page has anything in it.
        let mut search = Search::new(self, caller, &rights, size + 1);
        match rights.scope(Action::SecretGet) {
            ListScope::All => search.take_all(after).await?,
            ListScope::Ranges(ranges) => {
                let ranges = ranges.into_iter().filter_map(|range| match after {
                    Some(after) => range.after(after),
                    None => Some(range),
                });
                for range in ranges {
                    search.take_visible(range).await?;
                }
            }
        }
        caller.trail().note_decision(search.noted());
        let mut found = search.found;
        let fitting = found.len().min(size as usize).min(fitting(&found));
        let more = found.len() > fitting;
        found.truncate(fitting);
        let next = found.last().filter(|_| more).map(|last| last.secret.path.clone());
        let items = found.into_iter().map(|found| without_data(found, now)).collect();
        Ok(Page { items, next })
    }
}

/// A search for the secrets of one page.
struct Search<'a> {
    secrets: &'a Secrets,
    caller: &'a Caller,
    rights: &'a Rights<'a>,
    /// How many secrets are enough.
    wanted: usize,
    found: Vec<SecretWithVersion>,
    is_root: bool,
    /// The names of the policies that allow what was found.
    deciding: BTreeSet<&'a str>,
}

impl<'a> Search<'a> {
    fn new(secrets: &'a Secrets, caller: &'a Caller, rights: &'a Rights<'a>, wanted: u32) -> Self {
        Self {
            secrets,
            caller,
            rights,
            wanted: wanted as usize,
            found: Vec::new(),
            is_root: false,
            deciding: BTreeSet::new(),
        }
    }

    /// Takes what comes: the caller may see all secrets.
    async fn take_all(&mut self, after: Option<&SecretPath>) -> Result<(), Error> {
        self.is_root = true;
        let range = match after {
            Some(after) => PathRange::all().after(after),
            None => Some(PathRange::all()),
        };
        if let Some(range) = range {
            self.found = self.fetch(&range).await?;
        }
        Ok(())
    }

    /// Takes the secrets of a range that the caller may see, until they are enough.
    async fn take_visible(&mut self, range: PathRange) -> Result<(), Error> {
        let mut rest = Some(range);
        while let Some(range) = rest.take() {
            if self.is_done() {
                return Ok(());
            }
            let missing = self.wanted - self.found.len();
            let batch = self.fetch(&range).await?;
            let is_last = batch.len() < missing;
            let Some(last) = batch.last().map(|last| last.secret.path.clone()) else { break };
            let found_before = self.found.len();
            for secret in batch {
                if self.is_visible(&secret.secret.path) {
                    self.found.push(secret);
                }
            }
            rest = range.after(&last).filter(|_| !is_last);
            if self.found.len() == found_before
                && let Some(range) = rest.take()
            {
                rest = self.skip_hidden(range).await?;
            }
        }
        Ok(())
    }

    /// The range from its first secret on that the caller may see. Only paths are looked at, so that
    /// a few secrets among many hidden ones are found soon.
    async fn skip_hidden(&mut self, range: PathRange) -> Result<Option<PathRange>, Error> {
        let mut rest = Some(range);
        while let Some(range) = rest.take() {
            let okms_id = self.caller.okms_id();
            let paths = self.secrets.store.list_paths(okms_id, &range, SKIPPED_PATHS).await?;
            if let Some(visible) = paths.iter().find(|path| self.is_visible(path)) {
                let from = visible.as_str().to_owned();
                return Ok(Some(PathRange { from, to: range.to }));
            }
            let is_last = paths.len() < SKIPPED_PATHS as usize;
            rest = paths.last().filter(|_| !is_last).and_then(|last| range.after(last));
        }
        Ok(None)
    }

    async fn fetch(&self, range: &PathRange) -> Result<Vec<SecretWithVersion>, Error> {
        let missing = self.wanted.saturating_sub(self.found.len());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        self.secrets.store.list_secrets(self.caller.okms_id(), range, missing).await
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

    /// One decision for the record of the whole list: allowed where anything can be seen.
    fn noted(&self) -> NotedDecision {
        let names: Vec<_> = self.deciding.iter().take(NOTED_POLICIES).copied().collect();
        let decided_by = match names.as_slice() {
            _ if self.is_root => Some("root".to_owned()),
            [] => None,
            names => Some(names.join(", ")),
        };
        NotedDecision {
            action: Action::SecretGet.as_str(),
            allowed: decided_by.is_some(),
            decided_by,
        }
    }
}

/// How many of these secrets make a page of a bearable size; at least one.
fn fitting(found: &[SecretWithVersion]) -> usize {
    let mut bytes = 0;
    let beyond = found.iter().position(|found| {
        bytes += found.secret.custom_metadata.len_bytes();
        bytes > MAX_PAGE_METADATA_BYTES
    });
    beyond.map_or(found.len(), |beyond| beyond.max(1))
}

fn without_data(found: SecretWithVersion, now: Timestamp) -> SecretView {
    let version = found.version.map(|stored| view(stored.version, now));
    SecretView { secret: found.secret, version }
}

/// Lists at a time, in all: each may hold some 20 MiB of rows, if someone has filled all the custom
/// metadata there can be, and must not keep single reads from the few connections there are.
pub(super) const CONCURRENT_LISTS: usize = 3;
/// Custom metadata on one page: 26 secrets may fill it, others have a few hundred bytes each.
const MAX_PAGE_METADATA_BYTES: usize = 1024 * 1024;
/// Paths that are looked at in one go: a few milliseconds of work, and half a megabyte.
const SKIPPED_PATHS: u32 = 2_000;
/// Names of policies in the record of a list: enough to see where the rights come from.
const NOTED_POLICIES: usize = 10;
