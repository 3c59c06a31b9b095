//! The settings of a secret and of a domain, and which of them are effective.

use super::{Argument, CustomMetadata, Error, MAX_VERSION, VersionLifetime};

/// How many versions are kept where neither the secret nor its domain says: 10, the service's own
/// default.
pub const DEFAULT_MAX_VERSIONS: u32 = 10;

/// Settings that a secret has for itself, or a domain as the default of its secrets.
///
/// These are the stored values, as clients set and see them; [`SecretConfig::effective`] says what
/// they come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretConfig {
    /// Whether writes must name the current version. Required if the secret *or* its domain says
    /// so: a secret cannot lift what its domain demands.
    pub cas_required: bool,
    /// How many versions are kept; 0 where not set.
    pub max_versions: u32,
    /// How long a version stays open; zero where not set.
    pub deactivate_version_after: VersionLifetime,
}

/// What the settings of a secret and its domain come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// Whether writes must name the current version.
    pub cas_required: bool,
    /// How many versions are kept; at least 1.
    pub max_versions: u32,
    /// Seconds after which a version closes.
    pub deactivate_version_after: Option<u64>,
}

impl SecretConfig {
    /// What these settings of a secret come to under those of its domain: the secret's own value
    /// where it is set, else the domain's, else the default.
    pub fn effective(&self, domain: &Self) -> EffectiveConfig {
        let first_set = |own: u32, inherited: u32| if own == 0 { inherited } else { own };
        let max_versions = first_set(self.max_versions, domain.max_versions);
        let lifetime = if self.deactivate_version_after.is_unset() {
            &domain.deactivate_version_after
        } else {
            &self.deactivate_version_after
        };
        EffectiveConfig {
            cas_required: self.cas_required || domain.cas_required,
            max_versions: first_set(max_versions, DEFAULT_MAX_VERSIONS),
            deactivate_version_after: (!lifetime.is_unset()).then(|| lifetime.seconds()),
        }
    }

    /// These settings with the patch's values in place.
    #[must_use]
    pub fn patched(&self, patch: &SecretConfigPatch) -> Self {
        Self {
            cas_required: patch.cas_required.unwrap_or(self.cas_required),
            max_versions: patch.max_versions.unwrap_or(self.max_versions),
            deactivate_version_after: patch
                .deactivate_version_after
                .clone()
                .unwrap_or_else(|| self.deactivate_version_after.clone()),
        }
    }
}

/// Changes of settings; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretConfigPatch {
    /// See [`SecretConfig::cas_required`].
    pub cas_required: Option<bool>,
    /// See [`SecretConfig::max_versions`]; made by [`SecretConfigPatch::check_max_versions`].
    pub max_versions: Option<u32>,
    /// See [`SecretConfig::deactivate_version_after`].
    pub deactivate_version_after: Option<VersionLifetime>,
}

impl SecretConfigPatch {
    /// Checks a number of versions to keep: 0 (not set) to [`MAX_VERSION`].
    ///
    /// # Errors
    ///
    /// [`Argument::MaxVersions`].
    pub fn check_max_versions(number: u64) -> Result<u32, Error> {
        u32::try_from(number).ok().filter(|number| *number <= MAX_VERSION).ok_or_else(|| {
            Error::argument(Argument::MaxVersions, "maxVersions must be from 0 to 24000")
        })
    }
}

/// Changes of everything about a secret that is not data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataPatch {
    /// Changes of settings.
    pub config: SecretConfigPatch,
    /// The whole custom metadata anew.
    pub custom_metadata: Option<CustomMetadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cas_required: bool, max_versions: u32, lifetime: &str) -> SecretConfig {
        SecretConfig {
            cas_required,
            max_versions,
            deactivate_version_after: VersionLifetime::parse(lifetime).unwrap(),
        }
    }

    #[test]
    fn the_secret_wins_over_the_domain_and_the_domain_over_the_default() {
        for (secret, domain, expected) in [
            (config(false, 0, "0s"), config(false, 0, ""), (false, 10, None)),
            (config(false, 0, "0s"), config(true, 3, "1h"), (true, 3, Some(3_600))),
            (config(false, 2, "1d"), config(true, 3, "1h"), (true, 2, Some(86_400))),
            (config(true, 20, "0h"), config(false, 3, "0s"), (true, 20, None)),
        ] {
            let effective = secret.effective(&domain);
            let found = (
                effective.cas_required,
                effective.max_versions,
                effective.deactivate_version_after,
            );
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_number_of_versions_is_bounded() {
        assert_eq!(SecretConfigPatch::check_max_versions(0), Ok(0));
        assert_eq!(SecretConfigPatch::check_max_versions(24_000), Ok(24_000));
        assert!(SecretConfigPatch::check_max_versions(24_001).is_err());
        assert!(SecretConfigPatch::check_max_versions(u64::MAX).is_err());
    }
}
