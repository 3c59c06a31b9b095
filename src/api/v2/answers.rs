//! Answers of v2, in camelCase only.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{
    api::body::raw_json,
    domain::{Secret, SecretConfig, SecretData, VersionState, resource_urn},
    service::{Caller, SecretView, VersionView},
};

/// A secret with one of its versions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetSecretV2Response {
    #[schema(example = "prod/database/MySQL")]
    path: String,
    metadata: SecretV2Metadata,
    /// Absent where the secret has no version yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    version: Option<SecretV2Version>,
}

/// A secret after it was written.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenSecretV2Response {
    #[schema(example = "prod/database/MySQL")]
    path: String,
    metadata: SecretV2Metadata,
    /// What the writer should know, such as fields that were ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What is known of a secret apart from its data. Settings are the secret's own; what the domain adds
/// is not shown here.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretV2Metadata {
    /// Whether writes must name the current version in `cas`. The domain may require it besides.
    cas_required: bool,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00Z")]
    created_at: String,
    /// The number of the newest version; 0 before the first.
    #[schema(minimum = 0, maximum = 24000)]
    current_version: u32,
    #[schema(example = json!({"project": "A", "team": "X"}))]
    custom_metadata: BTreeMap<String, String>,
    /// As it was set; `0s` where it was not.
    #[schema(example = "10h30m10s")]
    deactivate_version_after: String,
    /// 0 where it is not set.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: u32,
    /// 0 until the first version was pruned, then the lowest number still kept.
    #[schema(minimum = 0, maximum = 24000)]
    oldest_version: u32,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00Z")]
    updated_at: String,
    #[schema(
        example = "urn:v1:eu:resource:okms:7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/secret/prod%2Fdatabase%2FMySQL"
    )]
    urn: String,
}

/// A version of a secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretV2Version {
    /// The number of the version.
    #[schema(minimum = 1, maximum = 24000)]
    id: u32,
    state: SecretV2State,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00Z")]
    created_at: String,
    /// When it closed. Absent while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false, example = "2026-11-23T09:30:00Z")]
    deactivated_at: Option<String>,
    /// Present where it was asked for and the version is active.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_raw_json")]
    #[schema(value_type = Option<Object>, nullable = false)]
    data: Option<SecretData>,
    /// What the writer should know, such as fields that were ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Active: data can be read. Deactivated: data is kept, and closed. Deleted: data is gone for good.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum SecretV2State {
    Active,
    Deactivated,
    Deleted,
}

/// Defaults for the secrets of a domain.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretConfigV2Response {
    /// Whether writes must name the current version in `cas`; a secret cannot lift it.
    cas_required: bool,
    /// As it was set; `0s` where it was not.
    #[schema(example = "90d")]
    deactivate_version_after: String,
    /// 0 where it is not set.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: u32,
    /// What the writer should know, such as fields that were ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl GetSecretV2Response {
    pub(super) fn new(caller: &Caller, view: SecretView) -> Self {
        let path = view.secret.path.to_string();
        Self {
            path,
            metadata: SecretV2Metadata::new(caller, view.secret),
            version: view.version.map(|version| SecretV2Version::new(version, Vec::new())),
        }
    }
}

impl WrittenSecretV2Response {
    pub(super) fn new(caller: &Caller, secret: Secret, warnings: Vec<String>) -> Self {
        let path = secret.path.to_string();
        Self { path, metadata: SecretV2Metadata::new(caller, secret), warnings }
    }
}

impl SecretV2Metadata {
    fn new(caller: &Caller, secret: Secret) -> Self {
        let region = &caller.principal().region;
        Self {
            cas_required: secret.config.cas_required,
            created_at: secret.created_at.to_rfc3339_seconds(),
            current_version: secret.current_version,
            custom_metadata: secret.custom_metadata.into_entries(),
            deactivate_version_after: secret.config.deactivate_version_after.as_str().to_owned(),
            max_versions: secret.config.max_versions,
            oldest_version: secret.oldest_version,
            updated_at: secret.updated_at.to_rfc3339_seconds(),
            urn: resource_urn(region, caller.okms_id(), Some(&secret.path)),
        }
    }
}

impl SecretV2Version {
    pub(super) fn new(view: VersionView, warnings: Vec<String>) -> Self {
        let closed = view.state != VersionState::Active;
        let deactivated_at = view.version.deactivated_at.filter(|_| closed);
        Self {
            id: view.version.id.get(),
            state: view.state.into(),
            created_at: view.version.created_at.to_rfc3339_seconds(),
            deactivated_at: deactivated_at.map(|at| at.to_rfc3339_seconds()),
            data: view.data,
            warnings,
        }
    }
}

impl From<VersionState> for SecretV2State {
    fn from(state: VersionState) -> Self {
        match state {
            VersionState::Active => Self::Active,
            VersionState::Deactivated => Self::Deactivated,
            VersionState::Deleted => Self::Deleted,
        }
    }
}

impl SecretConfigV2Response {
    pub(super) fn new(config: &SecretConfig, warnings: Vec<String>) -> Self {
        Self {
            cas_required: config.cas_required,
            deactivate_version_after: config.deactivate_version_after.as_str().to_owned(),
            max_versions: config.max_versions,
            warnings,
        }
    }
}

fn optional_raw_json<S: Serializer>(
    data: &Option<SecretData>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match data {
        Some(data) => raw_json(data, serializer),
        None => serializer.serialize_none(),
    }
}
