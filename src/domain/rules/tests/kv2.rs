//! The rules of KV2.

use super::*;
use crate::domain::CustomMetadata;

/// A secret as a naive book-keeper has it: plain numbers, and everything looked up anew.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entry {
    cas_required: bool,
    max_versions: u32,
    lifetime: u64,
    custom: BTreeMap<String, String>,
    current: u32,
    oldest: u32,
    updated: u64,
    /// By number: the second in which it closes, and whether it is gone.
    versions: BTreeMap<u32, (Option<u64>, bool)>,
}

impl Entry {
    fn is_open(&self, version: u32, now: u64) -> bool {
        let (closes, is_gone) = self.versions[&version];
        !is_gone && closes.is_none_or(|closes| now < closes)
    }

    fn closes(&self, domain: &SecretConfig, now: u64) -> Option<u64> {
        let inherited = domain.deactivate_version_after.seconds();
        let lifetime = if self.lifetime > 0 { self.lifetime } else { inherited };
        (lifetime > 0).then(|| now + lifetime)
    }

    fn passes(&self, domain: &SecretConfig, cas: Option<u32>) -> bool {
        cas.map_or(!self.cas_required && !domain.cas_required, |cas| cas == self.current)
    }

    fn add(&mut self, domain: &SecretConfig, now: u64) {
        self.current += 1;
        self.updated = now;
        self.versions.insert(self.current, (self.closes(domain, now), false));
        let kept = [self.max_versions, domain.max_versions, 10];
        let kept = kept.into_iter().find(|kept| *kept > 0).unwrap_or_default();
        while self.versions.len() > kept as usize {
            let (gone, _) = self.versions.pop_first().unwrap();
            self.oldest = gone + 1;
        }
    }

    fn set(&mut self, settings: &Settings) {
        let (cas_required, max_versions, lifetime) = *settings;
        self.cas_required = cas_required.unwrap_or(self.cas_required);
        self.max_versions = max_versions.unwrap_or(self.max_versions);
        self.lifetime = lifetime.unwrap_or(self.lifetime);
    }
}

type Settings = (Option<bool>, Option<u32>, Option<u64>);

fn settings_patch((cas_required, max_versions, lifetime): Settings) -> SecretConfigPatch {
    // As a lifetime that is not set is written: another text is another setting.
    let lifetime = lifetime.map(|seconds| VersionLifetime::parse(&format!("{seconds}s")).unwrap());
    SecretConfigPatch { cas_required, max_versions, deactivate_version_after: lifetime }
}

#[derive(Debug, Clone)]
enum Act {
    Put { cas: Option<u32> },
    Patch { cas: Option<u32> },
    PutMetadata { settings: Settings, custom: Option<BTreeMap<String, String>> },
    MergeMetadata { settings: Settings, custom: CustomMetadataPatch },
    SetStates { versions: Option<Vec<u32>>, state: VersionState },
    Configure { cas_required: bool, max_versions: u32, lifetime: u64 },
    Wait(u64),
    Delete,
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        prop::option::weighted(0.3, prop::bool::weighted(0.3)),
        prop::option::weighted(0.3, 0_u32..4),
        prop::option::weighted(0.3, 0_u64..4),
    )
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "c"][..]).prop_map(str::to_owned)
}

fn any_act() -> impl Strategy<Value = Act> {
    let state = prop::sample::select(VersionState::ALL.to_vec());
    let cas = || prop::option::weighted(0.4, 0_u32..5);
    let pairs = prop::collection::btree_map(name(), name(), 0..3);
    let changes = prop::collection::btree_map(name(), prop::option::of(name()), 0..3);
    let merge = prop_oneof![
        5 => changes.prop_map(CustomMetadataPatch::Merge),
        1 => Just(CustomMetadataPatch::Clear),
    ];
    let versions = prop::option::weighted(0.7, prop::collection::vec(1_u32..7, 1..4));
    prop_oneof![
        6 => cas().prop_map(|cas| Act::Put { cas }),
        4 => cas().prop_map(|cas| Act::Patch { cas }),
        3 => (settings(), prop::option::of(pairs)).prop_map(|(settings, custom)| {
            Act::PutMetadata { settings, custom }
        }),
        3 => (settings(), merge).prop_map(|(settings, custom)| {
            Act::MergeMetadata { settings, custom }
        }),
        5 => (versions, state).prop_map(|(versions, state)| Act::SetStates { versions, state }),
        1 => (prop::bool::weighted(0.3), 0_u32..4, 0_u64..4).prop_map(
            |(cas_required, max_versions, lifetime)| Act::Configure {
                cas_required,
                max_versions,
                lifetime
            }
        ),
        3 => (0_u64..4).prop_map(Act::Wait),
        1 => Just(Act::Delete),
    ]
}

impl Shelf {
    /// A snapshot with these versions, as far as there are such.
    fn with(&self, versions: impl IntoIterator<Item = u32>) -> SecretSnapshot {
        let wanted: std::collections::BTreeSet<u32> = versions.into_iter().collect();
        let found = wanted.iter().filter_map(|id| self.versions.get(id).cloned());
        SecretSnapshot { versions: found.collect(), ..self.snapshot(None) }
    }

    fn current(&self) -> Option<u32> {
        self.secret.as_ref().map(|secret| secret.current_version)
    }

    /// That it has what the book says, and nothing else.
    fn check(&self, entry: Option<&Entry>) -> Result<(), TestCaseError> {
        let Some(entry) = entry else {
            prop_assert!(self.secret.is_none() && self.versions.is_empty());
            return Ok(());
        };
        let secret = self.secret.as_ref().ok_or_else(|| TestCaseError::fail("no secret"))?;
        prop_assert_eq!(secret.config.cas_required, entry.cas_required);
        prop_assert_eq!(secret.config.max_versions, entry.max_versions);
        prop_assert_eq!(secret.config.deactivate_version_after.seconds(), entry.lifetime);
        prop_assert_eq!(secret.custom_metadata.entries(), &entry.custom);
        prop_assert_eq!(secret.current_version, entry.current);
        prop_assert_eq!(secret.oldest_version, entry.oldest);
        prop_assert_eq!(secret.updated_at, at(entry.updated));
        let versions = self
            .versions
            .iter()
            .map(|(id, version)| (*id, (version.deactivated_at, version.deleted)));
        let expected =
            entry.versions.iter().map(|(id, (closes, is_gone))| (*id, (closes.map(at), *is_gone)));
        prop_assert_eq!(versions.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn kv2_does_what_a_naive_book_keeper_does(acts in prop::collection::vec(any_act(), 1..24)) {
        let (mut shelf, mut book) = (Shelf::default(), None::<Entry>);
        let path = SecretPath::parse("a/b").unwrap();
        let mut now = 0;
        for act in acts {
            let domain = shelf.domain_config.clone();
            match act {
                Act::Put { cas } => {
                    let mut entry = book.clone().unwrap_or_default();
                    let decided = put(&shelf.with([]), &path, cas, at(now));
                    prop_assert_eq!(decided.is_ok(), entry.passes(&domain, cas));
                    match decided {
                        Ok(change) => {
                            prop_assert!(change.new_version().is_some());
                            shelf.apply(change);
                            entry.add(&domain, now);
                            book = Some(entry);
                        }
                        Err(error) => prop_assert!(is_cas_error(&Err(error))),
                    }
                }
                Act::Patch { cas } => {
                    let decided = patch_data(&shelf, cas, now);
                    match &mut book {
                        None => prop_assert_eq!(decided, Err(Error::SecretNotFound)),
                        Some(entry) if !entry.passes(&domain, cas) => {
                            prop_assert!(is_cas_error(&decided.map(|_| ())));
                        }
                        Some(entry) if entry.current == 0 => {
                            prop_assert_eq!(decided, Err(Error::VersionNotFound));
                        }
                        Some(entry) if !entry.is_open(entry.current, now) => match decided {
                            Err(Error::VersionClosed(closed)) => {
                                prop_assert_eq!(closed.version.id.get(), entry.current);
                                prop_assert_eq!(closed.custom_metadata.entries(), &entry.custom);
                            }
                            other => prop_assert!(false, "{other:?}"),
                        },
                        Some(entry) => {
                            shelf.apply(decided.unwrap());
                            entry.add(&domain, now);
                        }
                    }
                }
                Act::PutMetadata { settings, custom } => {
                    let patch = MetadataPatch {
                        config: settings_patch(settings),
                        custom_metadata: custom.clone().map(|pairs| CustomMetadata::new(pairs).unwrap()),
                    };
                    shelf.apply(put_metadata(&shelf.with([]), &path, &patch, at(now)));
                    let entry = book.get_or_insert_default();
                    entry.set(&settings);
                    entry.updated = now;
                    entry.custom = custom.unwrap_or_else(|| entry.custom.clone());
                }
                Act::MergeMetadata { settings, custom } => {
                    let config = settings_patch(settings);
                    let decided = merge_metadata(&shelf.with([]), &config, &custom, at(now));
                    let Some(entry) = &mut book else {
                        prop_assert_eq!(decided, Err(Error::SecretNotFound));
                        continue;
                    };
                    shelf.apply(decided.unwrap());
                    let before = entry.clone();
                    entry.set(&settings);
                    match custom {
                        CustomMetadataPatch::Clear => entry.custom.clear(),
                        CustomMetadataPatch::Merge(changes) => {
                            for (name, value) in changes {
                                entry.custom.remove(&name);
                                entry.custom.extend(value.map(|value| (name, value)));
                            }
                        }
                    }
                    if *entry != before {
                        entry.updated = now;
                    }
                }
                Act::SetStates { versions, state } => {
                    let wanted = versions.unwrap_or_else(|| shelf.current().into_iter().collect());
                    let change = set_version_states(&shelf.with(wanted.clone()), state, at(now));
                    shelf.apply(change);
                    if let Some(entry) = &mut book {
                        let closes = entry.closes(&domain, now);
                        for id in wanted.into_iter().filter(|id| *id > entry.oldest.max(1) - 1) {
                            if id > entry.current || entry.versions[&id].1 {
                                continue;
                            }
                            let is_open = entry.is_open(id, now);
                            let version = entry.versions.get_mut(&id).unwrap();
                            if state == VersionState::Active {
                                version.0 = closes;
                            } else if is_open {
                                version.0 = Some(now);
                            }
                            version.1 = state == VersionState::Deleted;
                        }
                    }
                }
                Act::Configure { cas_required, max_versions, lifetime } => {
                    shelf.domain_config = config(cas_required, max_versions, lifetime);
                }
                Act::Wait(seconds) => now += seconds,
                // As storage deletes: whatever there is.
                Act::Delete => {
                    shelf.secret = None;
                    shelf.versions.clear();
                    book = None;
                }
            }
            shelf.check(book.as_ref())?;
        }
    }
}

fn patch_data(shelf: &Shelf, cas: Option<u32>, now: u64) -> Result<SecretChange, Error> {
    // The name of the rule is that of a helper of these tests as well.
    super::super::patch(&shelf.with(shelf.current()), cas, at(now))
}
