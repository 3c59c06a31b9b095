//! What stands directly in a folder of paths, as the KV2 API lists it.
//!
//! A folder is the beginning of paths up to a slash, and exists where a secret stands below it. Its list
//! comes from the index of paths alone: what stands deeper is jumped over, so that the list costs what it
//! shows, however much there is. Names are not verified row by row; whoever asks for one of them finds out
//! whether the secret behind it is whole.

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Caller, Page, Secrets,
    cursors::List,
    listing::more_than,
    sight::Sight,
    turns::{Attempt, Attempts, Stop, Turn},
};
use crate::{
    domain::{Error, SecretPath},
    iam::PathRange,
};

/// What stands in a folder, or a page of it.
#[derive(Debug)]
pub struct Folder {
    /// Names of secrets, and of folders with a slash behind them.
    pub page: Page<String>,
    /// Very long lists are few at a time, until they are written out.
    turn: Option<Turn>,
}

/// What a very long list that is written out is kept with until it is sent, so that its caller has no more of
/// them.
#[derive(Debug)]
pub struct Unsent(
    #[expect(dead_code, reason = "it is there until it is dropped")] Option<OwnedSemaphorePermit>,
);

impl Folder {
    /// Says that the list is written out.
    pub fn written(self) -> Unsent {
        Unsent(self.turn.map(Turn::leave_to_others))
    }
}

impl Secrets {
    /// What stands directly in the folder `folder` (its path, or the empty text for the root): the last
    /// segments of secrets, and those of folders with a slash behind them, in the order of their bytes. Only
    /// what the caller may get counts. `size` is the most that a page holds; without it there is one page.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the cursor does not count here; [`Error::Unauthenticated`] where the caller
    /// counts no more after the list has waited; or when storage fails.
    pub async fn list_folder(
        &self,
        caller: &Caller,
        folder: &str,
        cursor: Option<&str>,
        size: Option<u32>,
    ) -> Result<Folder, Error> {
        caller.note_resource(None);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut whole = PathRange::of_prefix(&prefix);
        if let Some(cursor) = cursor {
            let last = self.keyring.open_cursor(caller, List::Folder(&prefix), cursor).await?;
            whole.from = behind(&prefix, &last);
        }
        let mut attempts = Attempts::of(caller);
        loop {
            let folder = self.try_list_folder(attempts.caller(), &prefix, &whole, size).await;
            if let Some(folder) = attempts.end(folder)? {
                return Ok(folder);
            }
        }
    }

    async fn try_list_folder(
        &self,
        caller: &Caller,
        prefix: &str,
        whole: &PathRange,
        size: Option<u32>,
    ) -> Result<Folder, Stop> {
        let mut walk = Walk {
            secrets: self,
            caller,
            sight: Sight::of(caller),
            attempt: Attempt::new(self, caller),
            prefix,
            // One more than asked for tells whether a next page has anything in it.
            wanted: size.map_or(usize::MAX, |size| size as usize + 1),
            found: Vec::new(),
            long_turn: None,
        };
        for range in walk.sight.ranges() {
            // A folder that was found is not gone into again by the next range.
            let rest = match walk.found.last() {
                Some(last) => PathRange { from: behind(prefix, last), to: whole.to.clone() },
                None => whole.clone(),
            };
            if let Some(range) = range.within(&rest) {
                walk.along(range).await?;
            }
        }
        let (mut items, turn) = (walk.found, walk.long_turn);
        let mut next = None;
        if let Some(size) = size.map(|size| size as usize).filter(|size| items.len() > *size) {
            items.truncate(size);
            if let Some(last) = items.last() {
                let sealed = self.keyring.seal_cursor(caller, List::Folder(prefix), last);
                next = Some(sealed.await?);
            }
        }
        Ok(Folder { page: Page { items, next }, turn })
    }
}

/// A walk along the paths of a folder.
struct Walk<'a> {
    secrets: &'a Secrets,
    caller: &'a Caller,
    sight: Sight<'a>,
    attempt: Attempt<'a>,
    /// The folder with its slash.
    prefix: &'a str,
    /// How many names are enough.
    wanted: usize,
    found: Vec<String>,
    /// There once the list is a very long one.
    long_turn: Option<Turn>,
}

impl Walk<'_> {
    /// Finds what stands in the folder along a range of its paths.
    async fn along(&mut self, range: PathRange) -> Result<(), Stop> {
        let mut rest = Some(range);
        let (mut limit, mut unreadable) = (FIRST_PATHS, 0);
        while let Some(mut range) = rest.take().filter(|_| self.found.len() < self.wanted) {
            let okms_id = self.caller.okms_id();
            let asked = limit + unreadable;
            let sql_limit = u32::try_from(asked).unwrap_or(u32::MAX);
            if self.found.len() > MANY_NAMES && self.long_turn.is_none() {
                self.long_turn = Some(self.attempt.grow_long().await?);
            }
            // One fetch at a time, so that a walk past many hidden paths holds up nobody else's list.
            let turn = self.attempt.look().await?;
            let paths = self.secrets.store.list_paths(okms_id, &range, sql_limit).await?;
            drop(turn);
            let is_last = paths.len() < asked;
            let found_before = self.found.len();
            let mut passed = None;
            for path in paths.into_iter().flatten() {
                if passed.as_ref().is_some_and(|passed: &String| path.as_str() < passed.as_str()) {
                    // Below a folder that was found.
                    continue;
                }
                passed = Some(self.pass(&path));
                if self.found.len() >= self.wanted {
                    break;
                }
            }
            match passed {
                Some(passed) => {
                    unreadable = 0;
                    range.from = range.from.max(passed);
                }
                None => unreadable = if is_last { 0 } else { more_than(unreadable)? },
            }
            // Few names among many paths: most of what was read lay deeper, or is hidden.
            limit = match self.found.len() - found_before {
                0 => (2 * limit).min(MOST_PATHS),
                found => (2 * found).clamp(FIRST_PATHS, MOST_PATHS),
            };
            rest = Some(range).filter(|range| !is_last && range.from < range.to);
        }
        Ok(())
    }

    /// Looks at a path, and tells from where on to go on.
    fn pass(&mut self, path: &SecretPath) -> String {
        let name = path.as_str().strip_prefix(self.prefix).unwrap_or_default();
        if name.is_empty() || !self.sight.sees(path) {
            return behind("", path.as_str());
        }
        let name = match name.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => name.to_owned(),
        };
        let passed = behind(self.prefix, &name);
        self.found.push(name);
        passed
    }
}

/// The least text behind all that a name in a folder stands for: the secret, or all below the folder.
fn behind(prefix: &str, name: &str) -> String {
    PathRange::end_of(&format!("{prefix}{name}"))
}

/// Paths that are read in one go at first, and where each leads to a folder of its own: a few more than
/// what is jumped over costs nothing.
const FIRST_PATHS: usize = 16;
/// Paths that are read in one go at the most: a few milliseconds of work, and half a megabyte.
const MOST_PATHS: usize = 2_000;
/// From so many names on a list waits until few others are as long: a million of them, which is what a list
/// without pages may come to, take some 100 MB.
const MANY_NAMES: usize = 20_000;
