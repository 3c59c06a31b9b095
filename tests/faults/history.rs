//! What writers were told, against what the store has: pure rules, without a server.
//!
//! A write that was answered with success was done; one that was refused was not; one that got no answer, or that of
//! an outage, was done as a whole or not at all. A secret with one writer must look as one of the ways it can have
//! gone. Of one with many writers, what they were told and what is there must fit together.

use std::{collections::BTreeMap, fmt};

/// A write, as its writer asks for it. Values and notes are numbers that no two writes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A secret with its first version, where there is none.
    Create { value: u64 },
    /// A version, and where it says so only as the successor of that one.
    Version { value: u64, cas: Option<u32> },
    /// Custom metadata.
    Describe { note: u64 },
    /// Custom metadata and a version as one.
    Both { note: u64, value: u64 },
    /// The state of a version.
    SetState { version: u32, state: State },
    /// Removes the secret with all its versions.
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Active,
    Deactivated,
    Deleted,
}

/// What a writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; with the number of the version that it made, where it makes one.
    Done(Option<u32>),
    Refused,
    /// No answer, or that of an outage.
    Unknown,
}

/// A write and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub write: Write,
    pub outcome: Outcome,
    /// When it was asked for and when it was answered, counted over all writers.
    pub began: u64,
    pub ended: u64,
}

/// A secret as the API shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub current: u32,
    /// 0 until a version was pruned.
    pub oldest: u32,
    pub note: Option<u64>,
    /// The state of each version, and its value where that is shown.
    pub versions: BTreeMap<u32, (State, Option<u64>)>,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Versions, counters and data of a secret that do not belong together.
    HalfDone(String),
    /// A list and a read disagree on whether there is a secret.
    Listed(bool),
    /// No way in which it can have gone ends in what is there, or in what a writer was told.
    Impossible(String),
    /// A version that was acknowledged is not there, or is another one's.
    Missing(u32),
    /// A version of nobody who can have made it.
    Invented(u32),
    /// Two versions of one write.
    Doubled(u64),
    /// Two writers were told the same number.
    Shared(u32),
    /// A version that is not the successor of the one that its writer named.
    WrongCas(u32),
    /// A version that was asked for after another was acknowledged has a lower number.
    Disordered(u32, u32),
    /// A version whose state is none that its writers asked for.
    WrongState(u32),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A secret as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Secret {
    current: u32,
    oldest: u32,
    note: Option<u64>,
    versions: BTreeMap<u32, (State, u64)>,
}

/// A secret that has one writer, in every way that it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    possible: Vec<Option<Secret>>,
    keep: u32,
}

impl Alone {
    /// A secret that is not there, and will keep that many versions.
    pub fn new(keep: u32) -> Self {
        Self { possible: vec![None], keep }
    }

    /// Takes note of what the writer was told.
    ///
    /// # Errors
    ///
    /// [`Violation::Impossible`] where no such secret can have led to it.
    pub fn told(&mut self, write: Write, outcome: Outcome) -> Result<(), Violation> {
        let mut next = Vec::new();
        for before in &self.possible {
            let after = applied(before, write, self.keep);
            match (outcome, after) {
                (Outcome::Done(told), Some((after, made))) if told == made => next.push(after),
                (Outcome::Refused, None) | (Outcome::Unknown, None) => next.push(before.clone()),
                (Outcome::Unknown, Some((after, _))) => next.extend([before.clone(), after]),
                (Outcome::Done(_) | Outcome::Refused, _) => {}
            }
        }
        next.dedup();
        if next.is_empty() {
            let text = format!("{write:?} was told {outcome:?}, of {:?}", self.possible);
            return Err(Violation::Impossible(text));
        }
        self.possible = next;
        Ok(())
    }

    /// The lowest and the highest version that it can have, where it can be there.
    pub fn range(&self) -> Option<(u32, u32)> {
        let secret = self.possible.last()?.as_ref()?;
        Some((secret.oldest.max(1), secret.current))
    }

    /// Compares with what is there, which is all that can be from then on.
    ///
    /// # Errors
    ///
    /// [`Violation::HalfDone`], [`Violation::Impossible`].
    pub fn found(&mut self, seen: Option<&Seen>) -> Result<(), Violation> {
        seen.map_or(Ok(()), whole)?;
        let fits = |secret: &&Option<Secret>| secret.as_ref().map(Secret::shown).as_ref() == seen;
        let Some(secret) = self.possible.iter().find(fits).cloned() else {
            let text = format!("there is {seen:?}; there can be {:?}", self.possible);
            return Err(Violation::Impossible(text));
        };
        self.possible = vec![secret];
        Ok(())
    }
}

impl Secret {
    fn add(&mut self, value: u64, keep: u32) -> u32 {
        self.current += 1;
        self.versions.insert(self.current, (State::Active, value));
        while self.versions.len() > keep as usize {
            self.versions.pop_first();
            self.oldest = self.current - keep + 1;
        }
        self.current
    }

    fn shown(&self) -> Seen {
        let versions = self.versions.iter().map(|(number, (state, value))| {
            (*number, (*state, (*state == State::Active).then_some(*value)))
        });
        let versions = versions.collect();
        Seen { current: self.current, oldest: self.oldest, note: self.note, versions }
    }
}

/// A secret after a write, and the version that this made; `None` where it is to be refused.
fn applied(
    before: &Option<Secret>,
    write: Write,
    keep: u32,
) -> Option<(Option<Secret>, Option<u32>)> {
    let Some(before) = before else {
        let Write::Create { value } = write else { return None };
        let versions = BTreeMap::from([(1, (State::Active, value))]);
        return Some((Some(Secret { current: 1, oldest: 0, note: None, versions }), Some(1)));
    };
    let mut after = before.clone();
    let made = match write {
        Write::Create { .. } => return None,
        Write::Version { cas: Some(cas), .. } if cas != before.current => return None,
        Write::Version { value, .. } => Some(after.add(value, keep)),
        Write::Describe { note } => {
            after.note = Some(note);
            None
        }
        Write::Both { note, value } => {
            after.note = Some(note);
            Some(after.add(value, keep))
        }
        Write::SetState { version, state } => {
            let (present, _) = after.versions.get_mut(&version)?;
            if *present == State::Deleted && state != State::Deleted {
                return None;
            }
            *present = state;
            None
        }
        Write::Delete => return Some((None, None)),
    };
    Some((Some(after), made))
}

/// Whether versions, counters and data of a secret belong together.
///
/// # Errors
///
/// [`Violation::HalfDone`].
pub fn whole(seen: &Seen) -> Result<(), Violation> {
    let broken = |what: &str| Err(Violation::HalfDone(format!("{what}: {seen:?}")));
    if seen.versions.is_empty() {
        return broken("no version");
    }
    if !seen.versions.keys().copied().eq(seen.oldest.max(1)..=seen.current) {
        return broken("a gap, or counters that are off");
    }
    if seen.versions.values().any(|(state, value)| (*state == State::Active) != value.is_some()) {
        return broken("an active version without data, or a closed one with it");
    }
    Ok(())
}

/// Compares a secret of many writers, who add versions and close their own, with what is there.
///
/// # Errors
///
/// Any but [`Violation::Impossible`].
pub fn shared(operations: &[Operation], seen: Option<&Seen>) -> Result<(), Violation> {
    let nothing = Seen::default();
    seen.map_or(Ok(()), whole)?;
    let versions = &seen.unwrap_or(&nothing).versions;
    let made: Vec<Made> = operations.iter().filter_map(|one| Made::of(one, versions)).collect();
    let mut last_told: BTreeMap<u32, &Made> = BTreeMap::new();
    for one in &made {
        let Some(number) = one.told else { continue };
        if last_told.insert(number, one).is_some() {
            return Err(Violation::Shared(number));
        }
        match versions.get(&number) {
            Some((_, Some(value))) if *value == one.value => {}
            Some((State::Deactivated | State::Deleted, None)) => {}
            _ => return Err(Violation::Missing(number)),
        }
    }
    for (number, (state, value)) in versions {
        let Some(value) = value else {
            // Closed by the writer that was told its number, and as it said.
            let asked = operations.iter().any(|one| {
                one.write == Write::SetState { version: *number, state: *state }
                    && one.outcome != Outcome::Refused
            });
            if asked && last_told.contains_key(number) {
                continue;
            }
            return Err(Violation::WrongState(*number));
        };
        let done = |one: &&Operation| matches!(one.write, Write::SetState { version, .. } if version == *number);
        let done =
            operations.iter().filter(done).any(|one| matches!(one.outcome, Outcome::Done(_)));
        if done {
            return Err(Violation::WrongState(*number));
        }
        let of_it: Vec<_> = made.iter().filter(|one| one.value == *value).collect();
        let [one] = of_it[..] else { return Err(Violation::Invented(*number)) };
        if one.told.is_some_and(|told| told != *number) {
            return Err(Violation::Doubled(*value));
        }
        if versions.values().filter(|(_, other)| *other == Some(*value)).count() > 1 {
            return Err(Violation::Doubled(*value));
        }
    }
    in_order(&made)
}

/// A version that was made for certain, or is there.
struct Made {
    value: u64,
    cas: Option<u32>,
    told: Option<u32>,
    number: Option<u32>,
    began: u64,
    ended: u64,
}

impl Made {
    fn of(operation: &Operation, versions: &BTreeMap<u32, (State, Option<u64>)>) -> Option<Self> {
        let (value, cas) = match operation.write {
            Write::Create { value } => (value, Some(0)),
            Write::Version { value, cas } => (value, cas),
            Write::Both { value, .. } => (value, None),
            _ => return None,
        };
        let told = match operation.outcome {
            Outcome::Done(told) => told,
            Outcome::Unknown => None,
            Outcome::Refused => return None,
        };
        let there = versions.iter().find(|(_, (_, seen))| *seen == Some(value));
        let number = told.or(there.map(|(number, _)| *number));
        let &Operation { began, ended, .. } = operation;
        Some(Self { value, cas, told, number, began, ended })
    }
}

/// Whether numbers follow the time and what writers named.
fn in_order(made: &[Made]) -> Result<(), Violation> {
    let mut made: Vec<_> =
        made.iter().filter_map(|one| one.number.map(|number| (number, one))).collect();
    made.sort_by_key(|(number, _)| *number);
    for (number, one) in &made {
        if one.cas.is_some_and(|cas| cas + 1 != *number) {
            return Err(Violation::WrongCas(*number));
        }
    }
    // The latest that any version of a lower number was asked for must not be after this one was acknowledged.
    let mut latest: Option<(u64, u32)> = None;
    for (number, one) in &made {
        if let Some((began, before)) = latest
            && one.told.is_some()
            && one.ended < began
        {
            return Err(Violation::Disordered(before, *number));
        }
        if latest.is_none_or(|(began, _)| began < one.began) {
            latest = Some((one.began, *number));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
