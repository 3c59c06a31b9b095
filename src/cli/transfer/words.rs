//! Secrets on their way: what a source has, and what of it the rules of this server take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::effect::Effect;
use crate::domain::{
    CustomMetadata, MAX_VERSION, SecretData, SecretPath, VersionLifetime, VersionState, json::Json,
};

/// A secret without its versions, as a source has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceSecret {
    pub(super) path: String,
    pub(super) metadata: Settings,
    /// What that comes to where it is; none where the caller could not see the defaults there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) effect: Option<Effect>,
    /// The number of the newest version; 0 where there is none.
    pub(super) current_version: u32,
    /// The lowest number that is kept; 0 where there is no version.
    pub(super) first_version: u32,
    /// When it was made, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
    /// When it was last written, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated_at: Option<String>,
}

/// What users set of a secret besides data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    pub(super) cas_required: bool,
    pub(super) max_versions: u32,
    pub(super) deactivate_version_after: String,
    pub(super) custom_metadata: BTreeMap<String, String>,
}

/// What a source has of a version.
pub(super) enum Content {
    /// It can be read.
    Open(SecretData),
    /// It is closed; its data, where it was opened for that.
    Deactivated(Option<SecretData>),
    /// It is gone for good; only its number is left.
    Deleted,
    /// There is data that this server would not take, for this reason.
    Refused(String),
}

impl Content {
    /// Data of a source, as far as the rules take it.
    pub(super) fn of(data: &RawValue) -> Self {
        let read = Json::parse(data.get().as_bytes()).map_err(|refusal| format!("data {refusal}"));
        let taken = read.and_then(|json| SecretData::from_json(&json).map_err(|error| why(&error)));
        taken.map_or_else(Self::Refused, Self::Open)
    }

    /// The state that the version is to have in the end.
    ///
    /// Of a version whose data is not at hand nothing is left but its number, and that is what deleted means.
    pub(super) const fn target_state(&self) -> VersionState {
        match self {
            Self::Open(_) => VersionState::Active,
            Self::Deactivated(Some(_)) => VersionState::Deactivated,
            Self::Deactivated(None) | Self::Deleted | Self::Refused(_) => VersionState::Deleted,
        }
    }

    /// The data that is written; where there is none, an empty object keeps the number.
    pub(super) fn to_write(&self) -> &str {
        match self {
            Self::Open(data) | Self::Deactivated(Some(data)) => data.as_str(),
            _ => EMPTY_DATA,
        }
    }
}

impl SourceSecret {
    /// How many versions are kept.
    pub(super) const fn kept(&self) -> u32 {
        (self.current_version + 1).saturating_sub(self.first_version)
    }

    /// Leaves out what the rules of this server refuse, and says what that was. Where nothing can be left of
    /// the secret, that is the error.
    pub(super) fn clean(&mut self) -> Result<Vec<String>, String> {
        SecretPath::parse(&self.path).map_err(|error| why(&error))?;
        if self.current_version > MAX_VERSION {
            return Err(format!("has more than {MAX_VERSION} versions"));
        }
        if self.first_version > self.current_version {
            return Err("its versions are numbered in a way that cannot be".to_owned());
        }
        let mut left_out = Vec::new();
        let settings = &mut self.metadata;
        if settings.custom_metadata.contains_key(MARKER) {
            return Err("is the unfinished copy of another import".to_owned());
        }
        settings.custom_metadata.retain(|key, value| {
            let pair = CustomMetadata::new(BTreeMap::from([(key.clone(), value.clone())]));
            if let Err(error) = &pair {
                left_out.push(format!("the pair {key:?} is left out: {}", why(error)));
            }
            pair.is_ok()
        });
        while settings.custom_metadata.len() > CustomMetadata::MAX_ENTRIES {
            if let Some((key, _)) = settings.custom_metadata.pop_last() {
                left_out.push(format!("the pair {key:?} is left out: there are too many"));
            }
        }
        if settings.max_versions > MAX_VERSION {
            left_out.push(format!("maxVersions is {MAX_VERSION}, the most there can be"));
            settings.max_versions = MAX_VERSION;
        }
        if let Err(error) = VersionLifetime::parse(&settings.deactivate_version_after) {
            let given = &settings.deactivate_version_after;
            left_out.push(format!("{given:?} is left out: {}", why(&error)));
            settings.deactivate_version_after = VersionLifetime::default().as_str().to_owned();
        }
        Ok(left_out)
    }
}

/// A rule that is broken; such texts name no values.
fn why(error: &crate::domain::Error) -> String {
    super::super::Failure::why(error).to_owned()
}

/// The pair of custom metadata by which a secret that is not whole yet is known. A secret that has it is never
/// taken for another's.
pub(super) const MARKER: &str = "okmsd-import";

/// Data that keeps the number of a version.
pub(super) const EMPTY_DATA: &str = "{}";
