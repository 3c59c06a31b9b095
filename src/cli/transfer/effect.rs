//! What the settings of a secret come to, so that a copy behaves as it did where other defaults count.

use serde::{Deserialize, Serialize};

use super::words::Settings;
use crate::domain::{EffectiveConfig, MAX_VERSION, SecretConfig, VersionLifetime};

/// What the settings of a secret and the defaults of where it is come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effect {
    /// Whether writes must name the current version.
    pub(super) cas_required: bool,
    /// How many versions are kept.
    pub(super) max_versions: u32,
    /// Seconds after which a version closes; none where it never does.
    pub(super) deactivate_after_seconds: Option<u64>,
}

impl From<EffectiveConfig> for Effect {
    fn from(config: EffectiveConfig) -> Self {
        Self {
            cas_required: config.cas_required,
            max_versions: config.max_versions,
            deactivate_after_seconds: config.deactivate_version_after,
        }
    }
}

/// What a KV2 engine says for all its secrets.
#[derive(Deserialize)]
pub(super) struct KvDefaults {
    cas_required: bool,
    max_versions: u32,
    /// In Go's form.
    #[serde(default)]
    delete_version_after: String,
}

impl KvDefaults {
    /// What the settings of a secret of the engine come to.
    ///
    /// Unlike in a server like this one, in a Vault or an OpenBao the larger number of versions counts and the
    /// shorter time, and -1s as the engine's ends all times.
    pub(super) fn effect(&self, own: &Settings, is_okms: bool) -> Effect {
        let (own, engine) = (own.config(), self.config());
        let effect = Effect::from(own.effective(&engine));
        if is_okms {
            return effect;
        }
        let times = [own.deactivate_version_after, engine.deactivate_version_after];
        let times = times.iter().filter(|time| !time.is_unset()).map(VersionLifetime::seconds);
        Effect {
            max_versions: effect.max_versions.max(self.max_versions),
            deactivate_after_seconds: times.min().filter(|_| self.delete_version_after != "-1s"),
            ..effect
        }
    }

    fn config(&self) -> SecretConfig {
        SecretConfig {
            cas_required: self.cas_required,
            max_versions: self.max_versions,
            deactivate_version_after: lifetime(&self.delete_version_after),
        }
    }
}

impl Settings {
    /// Without the custom metadata; what is no duration counts as none.
    pub(super) fn config(&self) -> SecretConfig {
        SecretConfig {
            cas_required: self.cas_required,
            max_versions: self.max_versions,
            deactivate_version_after: lifetime(&self.deactivate_version_after),
        }
    }

    /// Sets what it takes for the settings to come to the same under other defaults. Where nobody said what those
    /// are, nothing is left to them.
    pub(super) fn keep(&mut self, effect: &Effect, defaults: Option<&SecretConfig>) {
        let own = self.config();
        let here = defaults.map_or_else(
            || Effect {
                cas_required: own.cas_required,
                max_versions: own.max_versions,
                deactivate_after_seconds: Some(own.deactivate_version_after.seconds())
                    .filter(|_| !own.deactivate_version_after.is_unset()),
            },
            |defaults| own.effective(defaults).into(),
        );
        self.cas_required |= effect.cas_required && !here.cas_required;
        if here.max_versions != effect.max_versions {
            self.max_versions = effect.max_versions.min(MAX_VERSION);
        }
        if here.deactivate_after_seconds != effect.deactivate_after_seconds {
            // There is no word for never, but for a hundred years.
            let seconds = effect.deactivate_after_seconds.unwrap_or(VersionLifetime::MAX_SECONDS);
            let seconds = seconds.min(VersionLifetime::MAX_SECONDS);
            self.deactivate_version_after = lifetime(&seconds.to_string()).to_go();
        }
    }
}

fn lifetime(text: &str) -> VersionLifetime {
    VersionLifetime::parse(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cas_required: bool, max_versions: u32, lifetime: &str) -> Settings {
        Settings {
            cas_required,
            max_versions,
            deactivate_version_after: lifetime.to_owned(),
            custom_metadata: Default::default(),
        }
    }

    #[test]
    fn what_is_kept_comes_to_the_same_under_any_defaults() {
        let mut all = Vec::new();
        for cas_required in [false, true] {
            for max_versions in [0, 3, 10] {
                all.extend(
                    ["0s", "1h", "7d"].map(|time| settings(cas_required, max_versions, time)),
                );
            }
        }
        let pairs: Vec<_> =
            all.iter().flat_map(|from| all.iter().map(move |to| (from, to))).collect();
        let triples =
            all.iter().flat_map(|own| pairs.iter().map(move |&(from, to)| (own, from, to)));
        for (own, from, to) in triples {
            let before = Effect::from(own.config().effective(&from.config()));
            let mut kept = own.clone();
            kept.keep(&before, Some(&to.config()));
            let after = Effect::from(kept.config().effective(&to.config()));
            assert_eq!(after.max_versions, before.max_versions, "{own:?} {from:?} {to:?}");
            // A secret cannot lift what its domain demands.
            assert_eq!(after.cas_required, before.cas_required || to.cas_required);
            let never = VersionLifetime::MAX_SECONDS;
            assert_eq!(
                after.deactivate_after_seconds.unwrap_or(never),
                before.deactivate_after_seconds.unwrap_or(never),
            );
            if from == to {
                assert_eq!(&kept, own, "nothing is set that need not be");
            }
            let mut alone = own.clone();
            alone.keep(&before, None);
            assert_eq!(alone.max_versions, before.max_versions);
            assert_eq!(alone.cas_required, before.cas_required);
        }
    }

    #[test]
    fn what_a_file_says_is_bounded() {
        let mut kept = settings(false, 0, "0s");
        let effect = Effect {
            cas_required: false,
            max_versions: u32::MAX,
            deactivate_after_seconds: Some(u64::MAX),
        };
        kept.keep(&effect, Some(&SecretConfig::default()));
        assert_eq!(kept, settings(false, MAX_VERSION, "876600h0m0s"));
    }
}
