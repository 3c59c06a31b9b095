//! The policies and groups in memory, by which requests are decided.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    domain::{Error, IdentityKind, IdentityUrn},
    iam::{Policy, PolicySet, is_root},
    measure::FindsMeasured,
    store::{Store, StoredIam, StoredMember},
};

/// The policies and groups in memory, as recent as each request demands.
///
/// A request knows the revision as of which its credential was found; where that is another one than
/// of the snapshot at hand, policies and groups are read anew before anything is decided. So a change
/// acts on the next request of every server, however it reached the store.
pub struct PolicyCache {
    store: Store,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Snapshot>>,
    /// How often reading them was begun.
    begun: u64,
    /// How often the snapshot at hand would do.
    finds: FindsMeasured,
    /// The reading that is under way.
    reading: Option<Reading>,
}

/// A reading under way, which any number of requests wait for and none of them ends by going away.
#[derive(Clone)]
struct Reading {
    /// Of all readings, the first is 1.
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<Arc<Snapshot>, Error>;

impl PolicyCache {
    /// Reads policies and groups of `store` when they are first needed.
    pub fn new(store: Store) -> Self {
        Self { store, state: Arc::default() }
    }

    /// The policies and groups by which a caller with these identities is decided about, as of a revision
    /// that was just read, or later.
    ///
    /// # Errors
    ///
    /// When storage fails, or holds what this program cannot read: then nothing is decided, but about
    /// root. What cannot be read was logged when it was found out.
    pub async fn at(&self, revision: i64, identities: &[String]) -> Result<Arc<PolicySet>, Error> {
        let snapshot = self.snapshot(revision).await?;
        snapshot
            .deciding_about(identities)
            .map_err(|_| Error::Internal("policies or groups cannot be read, as was logged".into()))
    }

    /// How often the snapshot at hand would do, and how often not.
    pub fn finds(&self) -> FindsMeasured {
        self.state().finds
    }

    /// How often reading policies and groups was begun.
    pub fn readings(&self) -> u64 {
        self.state().begun
    }

    async fn snapshot(&self, revision: i64) -> Outcome {
        let mut begun_before = None;
        loop {
            let Reading { number, mut outcome } = {
                let mut state = self.state();
                if let Some(current) = &state.current
                    && current.revision() == revision
                {
                    let current = Arc::clone(current);
                    state.finds.hits += u64::from(begun_before.is_none());
                    return Ok(current);
                }
                if begun_before.is_none() {
                    state.finds.misses += 1;
                    begun_before = Some(state.begun);
                }
                match &state.reading {
                    Some(reading) => reading.clone(),
                    None => self.begin(&mut state),
                }
            };
            let Ok(outcome) = outcome.wait_for(Option::is_some).await.map(|found| found.clone())
            else {
                self.state().end(number, None);
                return Err(Error::Internal("reading the policies was given up".into()));
            };
            let Some(outcome) = outcome else { continue };
            let snapshot = outcome?;
            // One that was begun before this request came may be older than what it asks for; one that
            // was begun since is as recent as can be.
            if snapshot.revision() >= revision || begun_before.is_none_or(|before| number > before)
            {
                return Ok(snapshot);
            }
        }
    }

    /// Begins to read, in a task of its own: whoever waits for it may go away.
    fn begin(&self, state: &mut State) -> Reading {
        state.begun += 1;
        let (number, (told, outcome)) = (state.begun, watch::channel(None));
        let (store, shared) = (self.store.clone(), Arc::clone(&self.state));
        tokio::spawn(async move {
            let read = Snapshot::load(&store).await.map(Arc::new);
            let current = read.as_ref().ok();
            if let Some(damage) = current.and_then(|snapshot| snapshot.damage.as_ref()) {
                tracing::error!(error = damage, "only root may do anything");
            }
            lock(&shared).end(number, current.map(Arc::clone));
            told.send_replace(Some(read));
        });
        let reading = Reading { number, outcome };
        state.reading = Some(reading.clone());
        reading
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for PolicyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyCache").finish_non_exhaustive()
    }
}

impl State {
    fn end(&mut self, number: u64, snapshot: Option<Arc<Snapshot>>) {
        if self.reading.as_ref().is_some_and(|reading| reading.number == number) {
            self.reading = None;
            self.current = snapshot.or_else(|| self.current.take());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All policies and groups as they were at one moment, as far as they can be read.
#[derive(Debug)]
pub struct Snapshot {
    /// Without policies where anything is damaged.
    set: Arc<PolicySet>,
    /// What cannot be read.
    damage: Option<String>,
}

impl Snapshot {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub(super) async fn load(store: &Store) -> Result<Self, Error> {
        let stored = store.load_iam().await?;
        // All the policies that there can be take a second to read, in which other requests go on.
        let reading = tokio::task::spawn_blocking(|| Self::read(stored)).await;
        reading.map_err(|_| Error::Internal("reading the policies panicked".into()))
    }

    fn read(stored: StoredIam) -> Self {
        let (mut policies, mut members, mut damages) = (Vec::new(), Vec::new(), Vec::new());
        for (name, document) in stored.policies {
            match read_stored(name.as_deref(), document.as_deref()) {
                Ok(policy) => policies.push(policy),
                Err(why) => {
                    let name = shown(name.as_deref());
                    damages.push(format!("the stored policy {name} cannot be read: {why}"));
                }
            }
        }
        for member in stored.members {
            match check_member(member) {
                Ok(member) => members.push(member),
                Err(why) => damages.push(why),
            }
        }
        damages.sort_unstable();
        let damage = (!damages.is_empty()).then(|| {
            let more = damages.len().saturating_sub(NAMED_DAMAGES);
            damages.truncate(NAMED_DAMAGES);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            // A policy that cannot be read may be one that denies.
            policies.clear();
            format!("{}{more}", damages.join("; "))
        });
        Self { set: Arc::new(PolicySet::new(stored.revision, policies, members)), damage }
    }

    /// What decides about a caller with these identities.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] tells what cannot be read, where that might change the decision: that root may
    /// do everything is none that any policy changes.
    pub fn deciding_about(&self, identities: &[String]) -> Result<Arc<PolicySet>, Error> {
        match &self.damage {
            Some(damage) if !is_root(identities) => Err(Error::Internal(damage.clone())),
            _ => Ok(Arc::clone(&self.set)),
        }
    }

    /// What cannot be read.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    fn revision(&self) -> i64 {
        self.set.revision()
    }
}

/// Reads the document of a stored policy, or says what is wrong with it. It was read before it was stored;
/// but a later program may know more than this one, and rows may be damaged.
pub(super) fn read_stored(name: Option<&str>, document: Option<&str>) -> Result<Policy, String> {
    let name = name.ok_or("its name is no text")?;
    Policy::parse_stored(name, document.ok_or("its document is no text")?)
}

/// A membership as a pair of group and member, or what is wrong with it. A group that is an account would
/// make its members root.
pub(super) fn check_member(stored: StoredMember) -> Result<(String, String), String> {
    let StoredMember { group, member } = stored;
    let kind =
        |urn: &Option<String>| urn.as_deref().and_then(IdentityUrn::parse).map(|urn| urn.kind());
    let is_group = kind(&group) == Some(IdentityKind::Group);
    let is_member = matches!(kind(&member), Some(IdentityKind::User | IdentityKind::Credential));
    match (group, member) {
        (Some(group), Some(member)) if is_group && is_member => Ok((group, member)),
        (group, member) => {
            let (group, member) = (shown(group.as_deref()), shown(member.as_deref()));
            Err(format!("the stored group {group} cannot be read: its member is {member}"))
        }
    }
}

/// What a row holds, in a message.
fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| "(no text)".to_owned(), |text| text.escape_debug().to_string())
}

/// Damaged rows that are named; they are mended one after the other.
const NAMED_DAMAGES: usize = 5;
