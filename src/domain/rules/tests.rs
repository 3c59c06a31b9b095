//! The rules against a naive book-keeper, by the hundred thousand.

mod kv2;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{SecretConfigPatch, VersionLifetime};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn at(second: u64) -> Timestamp {
    NOW.plus_seconds(second)
}

fn config(cas_required: bool, max_versions: u32, lifetime: u64) -> SecretConfig {
    SecretConfig {
        cas_required,
        max_versions,
        deactivate_version_after: VersionLifetime::parse(&lifetime.to_string()).unwrap(),
    }
}

fn patch(cas_required: Option<bool>, max_versions: Option<u32>) -> MetadataPatch {
    MetadataPatch {
        config: SecretConfigPatch { cas_required, max_versions, ..Default::default() },
        custom_metadata: None,
    }
}

/// A store of one secret that carries out what the rules decide, and nothing of its own.
#[derive(Default)]
struct Shelf {
    domain_config: SecretConfig,
    secret: Option<Secret>,
    versions: BTreeMap<u32, Version>,
}

impl Shelf {
    fn snapshot(&self, version: Option<u32>) -> SecretSnapshot {
        SecretSnapshot {
            domain_config: self.domain_config.clone(),
            secret: self.secret.clone(),
            versions: version.and_then(|id| self.versions.get(&id).cloned()).into_iter().collect(),
        }
    }

    fn apply(&mut self, change: SecretChange) {
        if let Some(new) = change.new_version() {
            let version = Version {
                id: new.id,
                created_at: new.created_at,
                deactivated_at: new.deactivated_at,
                deleted: false,
            };
            self.versions.insert(new.id.get(), version);
        }
        match change {
            SecretChange::Insert { secret, .. } => self.secret = Some(secret),
            SecretChange::Update { secret, prune_through, .. } => {
                self.secret = Some(secret);
                if let Some(last) = prune_through {
                    self.versions.retain(|id, _| *id > last.get());
                }
            }
            SecretChange::SetVersions(versions) => {
                self.versions
                    .extend(versions.into_iter().map(|version| (version.id.get(), version)));
            }
            SecretChange::Keep(_) => {}
        }
    }

    fn create(&mut self, metadata: &MetadataPatch, now: Timestamp) -> Result<(), Error> {
        let path = SecretPath::parse("a/b").unwrap();
        let change = create(&self.snapshot(None), &path, metadata, now)?;
        self.apply(change);
        Ok(())
    }

    fn write(&mut self, cas: Option<u32>, patch: &MetadataPatch, now: u64) -> Result<(), Error> {
        let change = update(&self.snapshot(None), cas, patch, true, at(now))?;
        self.apply(change);
        Ok(())
    }

    fn set(&mut self, version: u32, state: VersionState, now: u64) -> Result<(), Error> {
        let change = set_version_state(&self.snapshot(Some(version)), state, at(now))?;
        self.apply(change);
        Ok(())
    }
}

fn is_cas_error(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Argument(Argument::CheckAndSet, _)))
}

#[test]
fn settings_of_an_update_count_for_the_update_itself() {
    let mut shelf = Shelf::default();
    shelf.create(&patch(Some(true), None), NOW).unwrap();
    assert!(is_cas_error(&shelf.write(None, &MetadataPatch::default(), 1)));
    shelf.write(None, &patch(Some(false), None), 1).unwrap();
    assert!(is_cas_error(&shelf.write(None, &patch(Some(true), None), 2)));
    shelf.write(Some(2), &patch(Some(true), Some(1)), 2).unwrap();
    assert_eq!(shelf.versions.keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(shelf.secret.unwrap().oldest_version, 3);
}

#[test]
fn a_domain_that_requires_cas_is_obeyed_by_updates_and_not_asked_by_creates() {
    let mut shelf = Shelf { domain_config: config(true, 0, 0), ..Default::default() };
    shelf.create(&patch(Some(false), None), NOW).unwrap();
    assert!(is_cas_error(&shelf.write(None, &patch(Some(false), None), 1)));
    shelf.write(Some(1), &MetadataPatch::default(), 1).unwrap();
}

#[test]
fn the_last_version_number_is_the_end() {
    let mut shelf = Shelf::default();
    shelf.create(&MetadataPatch::default(), NOW).unwrap();
    shelf.secret.as_mut().unwrap().current_version = MAX_VERSION;
    let error = shelf.write(None, &MetadataPatch::default(), 1).unwrap_err();
    assert!(matches!(error, Error::Argument(Argument::VersionsExhausted, _)));
}

#[test]
fn a_version_closes_at_its_very_second_and_activation_starts_its_time_anew() {
    let mut shelf = Shelf { domain_config: config(false, 0, 10), ..Default::default() };
    shelf.create(&MetadataPatch::default(), NOW).unwrap();
    let before = Timestamp::from_millis(at(10).as_millis() - 1);
    assert_eq!(shelf.versions[&1].state(before), VersionState::Active);
    assert_eq!(shelf.versions[&1].state(at(10)), VersionState::Deactivated);
    shelf.set(1, VersionState::Active, 100).unwrap();
    assert_eq!(shelf.versions[&1].state(at(109)), VersionState::Active);
    assert_eq!(shelf.versions[&1].state(at(110)), VersionState::Deactivated);
}

#[derive(Debug, Clone)]
enum Step {
    Create { cas_required: bool, max_versions: u32 },
    Write { cas: Option<u32>, cas_required: Option<bool>, max_versions: Option<u32>, data: bool },
    Set { version: u32, state: VersionState },
    Configure { cas_required: bool, max_versions: u32, lifetime: u64 },
    Wait(u64),
    Delete,
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(VersionState::ALL.to_vec());
    prop_oneof![
        1 => (any::<bool>(), 0_u32..4).prop_map(|(cas_required, max_versions)| Step::Create {
            cas_required,
            max_versions
        }),
        5 => (
            prop::option::of(0_u32..6),
            prop::option::weighted(0.2, any::<bool>()),
            prop::option::weighted(0.2, 0_u32..4),
            any::<bool>(),
        )
            .prop_map(|(cas, cas_required, max_versions, data)| Step::Write {
                cas,
                cas_required,
                max_versions,
                data,
            }),
        3 => (1_u32..7, state).prop_map(|(version, state)| Step::Set { version, state }),
        1 => (any::<bool>(), 0_u32..4, 0_u64..4).prop_map(
            |(cas_required, max_versions, lifetime)| Step::Configure {
                cas_required,
                max_versions,
                lifetime
            }
        ),
        2 => (0_u64..4).prop_map(Step::Wait),
        1 => Just(Step::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn no_sequence_of_requests_breaks_an_invariant(
        steps in prop::collection::vec(any_step(), 1..24)
    ) {
        let mut shelf = Shelf::default();
        let mut now = 0;
        for step in steps {
            let before = shelf.secret.clone();
            let versions_before = shelf.versions.clone();
            let current = before.as_ref().map(|secret| secret.current_version);
            match step {
                Step::Create { cas_required, max_versions } => {
                    let made = shelf.create(&patch(Some(cas_required), Some(max_versions)), at(now));
                    prop_assert_eq!(made.is_ok(), before.is_none());
                }
                Step::Write { cas, cas_required, max_versions, data } => {
                    let patch = patch(cas_required, max_versions);
                    let decided = update(&shelf.snapshot(None), cas, &patch, data, at(now));
                    let Some(before) = before else {
                        prop_assert_eq!(decided, Err(Error::SecretNotFound));
                        continue;
                    };
                    let required = shelf.domain_config.cas_required
                        || cas_required.unwrap_or(before.config.cas_required);
                    let passes = match cas {
                        Some(cas) => Some(cas) == current,
                        None => !required,
                    };
                    prop_assert_eq!(decided.is_ok(), passes);
                    if let Ok(change) = decided {
                        shelf.apply(change);
                        let secret = shelf.secret.as_ref().unwrap();
                        prop_assert_eq!(secret.current_version, before.current_version + u32::from(data));
                        if data {
                            let newest = &shelf.versions[&secret.current_version];
                            let lifetime = &shelf.domain_config.deactivate_version_after;
                            prop_assert_eq!(
                                newest.deactivated_at,
                                (!lifetime.is_unset()).then(|| at(now + lifetime.seconds()))
                            );
                            let kept = secret.config.effective(&shelf.domain_config).max_versions;
                            prop_assert!(shelf.versions.len() <= kept as usize);
                        } else {
                            prop_assert_eq!(&shelf.versions, &versions_before);
                        }
                    }
                }
                Step::Set { version, state } => {
                    let present = versions_before.get(&version).map(|found| found.state(at(now)));
                    let result = shelf.set(version, state, now);
                    match present {
                        None if before.is_none() => {
                            prop_assert_eq!(result, Err(Error::SecretNotFound));
                        }
                        None => prop_assert_eq!(result, Err(Error::VersionNotFound)),
                        Some(VersionState::Deleted) if state != VersionState::Deleted => {
                            prop_assert!(result.is_err());
                        }
                        Some(_) => {
                            prop_assert!(result.is_ok());
                            let lifetime = shelf.domain_config.deactivate_version_after.seconds();
                            // Activated for a lifetime of its own, if there is one.
                            prop_assert_eq!(shelf.versions[&version].state(at(now)), state);
                            if state == VersionState::Active && present != Some(state) && lifetime > 0 {
                                prop_assert_eq!(
                                    shelf.versions[&version].state(at(now + lifetime)),
                                    VersionState::Deactivated
                                );
                            }
                        }
                    }
                }
                Step::Configure { cas_required, max_versions, lifetime } => {
                    shelf.domain_config = config(cas_required, max_versions, lifetime);
                }
                Step::Wait(seconds) => now += seconds,
                // As storage deletes: whatever there is.
                Step::Delete => {
                    shelf.secret = None;
                    shelf.versions.clear();
                }
            }
            // Deleted versions never come back, whatever happens to the rest.
            for (id, version) in &versions_before {
                if version.deleted && shelf.secret.is_some() {
                    prop_assert!(shelf.versions.get(id).is_none_or(|found| found.deleted));
                }
            }
            // Numbers run without a gap from the oldest to the current one.
            if let Some(secret) = &shelf.secret {
                let kept: Vec<u32> = shelf.versions.keys().copied().collect();
                let oldest = secret.oldest_version.max(1);
                prop_assert_eq!(kept, (oldest..=secret.current_version).collect::<Vec<_>>());
                prop_assert!(secret.oldest_version != 1);
            }
        }
    }
}

#[test]
fn a_clock_that_was_set_back_makes_no_version_look_older_and_lets_none_live_longer() {
    let mut shelf = Shelf { domain_config: config(false, 0, 60), ..Shelf::default() };
    let path = SecretPath::parse("a").unwrap();
    let nothing = patch(None, None);
    shelf.apply(create(&shelf.snapshot(None), &path, &nothing, at(1_000)).unwrap());
    let write = |shelf: &Shelf, data| update(&shelf.snapshot(None), None, &nothing, data, at(10));
    shelf.apply(write(&shelf, false).unwrap());
    shelf.apply(put_metadata(&shelf.snapshot(None), &path, &nothing, at(10)));
    let new = *write(&shelf, true).unwrap().new_version().unwrap();
    assert_eq!((new.created_at, new.deactivated_at), (at(1_000), Some(at(70))));
}
