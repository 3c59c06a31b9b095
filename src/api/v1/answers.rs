//! Answers of v1, in the form of KV2: what is asked for stands in `data`, beside the id of the request.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::error::KvError;
use crate::{
    api::{body::raw_json, envelope::RequestId, error::ApiError},
    domain::{CustomMetadata, Error, Secret, SecretConfig, SecretData, Version, resource_urn},
    service::{Caller, OpenedVersion, VersionView},
};

/// Something that was asked for.
#[derive(Serialize)]
pub(super) struct Answer<T> {
    request_id: String,
    data: T,
    warnings: Option<Vec<String>>,
}

impl<T> Answer<T> {
    pub(super) fn new(RequestId(request_id): RequestId, data: T) -> Self {
        Self { request_id, data, warnings: None }
    }
}

/// What the writer should know.
#[derive(Serialize, ToSchema)]
pub(super) struct Warnings {
    request_id: String,
    warnings: Vec<String>,
}

impl Warnings {
    pub(super) fn new(RequestId(request_id): RequestId, warnings: Vec<String>) -> Self {
        Self { request_id, warnings }
    }
}

/// The defaults of a domain.
#[derive(Serialize, ToSchema)]
pub(super) struct GetConfigData {
    /// Whether writes must name the current version in `options.cas`.
    cas_required: bool,
    /// How long a version can be read after it was written; `0s`: for ever.
    #[schema(example = "24h0m0s")]
    delete_version_after: String,
    /// How many versions are kept; 0: 10.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: u32,
}

impl GetConfigData {
    pub(super) fn new(config: &SecretConfig) -> Self {
        Self {
            cas_required: config.cas_required,
            delete_version_after: config.deactivate_version_after.to_go(),
            max_versions: config.max_versions,
        }
    }
}

/// A version, apart from its data.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionMetadata {
    #[schema(format = DateTime, example = "2026-11-23T09:30:00.123000000Z")]
    created_time: String,
    /// That of the secret; null where it has none.
    custom_metadata: Option<BTreeMap<String, String>>,
    /// When it was deleted, or will be by its age; empty where neither is so.
    deletion_time: String,
    /// Whether its data is gone for good.
    destroyed: bool,
    /// Its number.
    #[schema(minimum = 1, maximum = 24000)]
    version: u32,
}

impl VersionMetadata {
    pub(super) fn new(secret: &Secret, version: &Version) -> Self {
        Self::of(version, &secret.custom_metadata)
    }

    fn of(version: &Version, custom_metadata: &CustomMetadata) -> Self {
        Self {
            created_time: version.created_at.to_rfc3339_nanos(),
            custom_metadata: pairs(custom_metadata),
            deletion_time: deletion_time(version),
            destroyed: version.deleted,
            version: version.id.get(),
        }
    }
}

/// A version with its data.
#[derive(Serialize, ToSchema)]
pub(super) struct GetSecretData {
    /// What was written.
    #[serde(serialize_with = "raw_json")]
    #[schema(value_type = Object)]
    data: SecretData,
    metadata: VersionMetadata,
}

impl GetSecretData {
    pub(super) fn new(OpenedVersion { secret, version, data }: OpenedVersion) -> Self {
        Self { data, metadata: VersionMetadata::new(&secret, &version) }
    }
}

/// A version with the keys of its data.
#[derive(Serialize, ToSchema)]
pub(super) struct GetSubkeysData {
    metadata: VersionMetadata,
    /// What was written, with null in the place of values.
    #[serde(serialize_with = "raw_json")]
    #[schema(value_type = Object)]
    subkeys: SecretData,
}

impl GetSubkeysData {
    pub(super) fn new(OpenedVersion { secret, version, data }: OpenedVersion) -> Self {
        Self { subkeys: data, metadata: VersionMetadata::new(&secret, &version) }
    }
}

/// What is known of a secret and its versions apart from data. Settings are the secret's own; what the
/// domain adds is not shown here.
#[derive(Serialize, ToSchema)]
pub(super) struct GetMetadataData {
    cas_required: bool,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00.123000000Z")]
    created_time: String,
    /// The number of the newest version; 0 before the first.
    #[schema(minimum = 0, maximum = 24000)]
    current_version: u32,
    custom_metadata: Option<BTreeMap<String, String>>,
    #[schema(example = "24h0m0s")]
    delete_version_after: String,
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: u32,
    /// 0 until the first version was pruned, then the lowest number still kept.
    #[schema(minimum = 0, maximum = 24000)]
    oldest_version: u32,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00.123000000Z")]
    updated_time: String,
    urn: String,
    /// The versions by their numbers.
    versions: BTreeMap<u32, VersionMetadataShort>,
}

/// A version in the metadata of its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionMetadataShort {
    #[schema(format = DateTime, example = "2026-11-23T09:30:00.123000000Z")]
    created_time: String,
    /// When it was deleted, or will be by its age; empty where neither is so.
    deletion_time: String,
    /// Whether its data is gone for good.
    destroyed: bool,
}

impl GetMetadataData {
    pub(super) fn new(caller: &Caller, secret: &Secret, versions: Vec<VersionView>) -> Self {
        let versions = versions.into_iter().map(|VersionView { version, .. }| {
            let short = VersionMetadataShort {
                created_time: version.created_at.to_rfc3339_nanos(),
                deletion_time: deletion_time(&version),
                destroyed: version.deleted,
            };
            (version.id.get(), short)
        });
        Self {
            cas_required: secret.config.cas_required,
            created_time: secret.created_at.to_rfc3339_nanos(),
            current_version: secret.current_version,
            custom_metadata: pairs(&secret.custom_metadata),
            delete_version_after: secret.config.deactivate_version_after.to_go(),
            max_versions: secret.config.max_versions,
            oldest_version: secret.oldest_version,
            updated_time: secret.updated_at.to_rfc3339_nanos(),
            urn: resource_urn(&caller.principal().region, caller.okms_id(), Some(&secret.path)),
            versions: versions.collect(),
        }
    }
}

/// What stands in a folder.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    /// Names of secrets, and of folders with a slash behind them.
    pub(super) keys: Vec<String>,
}

/// What a request was about that met a closed version: KV2 tells its metadata beside the error, each
/// operation in the form of its own answer.
#[derive(Clone, Copy)]
pub(super) enum Closed {
    /// Its data.
    Data,
    /// The keys of its data.
    Subkeys,
    /// A new version that was to be made of it.
    Metadata,
}

impl Closed {
    pub(super) fn answer(self, error: Error) -> KvError {
        let Error::VersionClosed(closed) = &error else { return error.into() };
        let metadata = VersionMetadata::of(&closed.version, &closed.custom_metadata);
        // Text, numbers and booleans always serialize.
        let metadata = serde_json::to_value(metadata).unwrap_or_default();
        let data = match self {
            Self::Data => serde_json::json!({"data": null, "metadata": metadata}),
            Self::Subkeys => serde_json::json!({"metadata": metadata, "subkeys": null}),
            Self::Metadata => metadata,
        };
        ApiError::WithData(error, Box::new(data)).into()
    }
}

fn pairs(custom_metadata: &CustomMetadata) -> Option<BTreeMap<String, String>> {
    Some(custom_metadata.entries()).filter(|entries| !entries.is_empty()).cloned()
}

fn deletion_time(version: &Version) -> String {
    version.deactivated_at.map_or_else(String::new, |at| at.to_rfc3339_nanos())
}

/// The documented form of an answer, by the name that the service has for it.
macro_rules! documented {
    ($($name:ident of $data:ty;)*) => {$(
        #[doc = concat!("Answer with `", stringify!($data), "`.")]
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "read by the OpenAPI document only")]
        pub(super) struct $name {
            request_id: String,
            data: $data,
            warnings: Option<Vec<String>>,
        }
    )*};
}

documented! {
    GetConfigResponse of GetConfigData;
    GetSecretResponse of GetSecretData;
    PostSecretResponse of VersionMetadata;
    PatchSecretResponse of VersionMetadata;
    GetSecretSubkeysResponse of GetSubkeysData;
    GetMetadataResponse of MetadataOrKeys;
}

/// The metadata of a secret, or the names in a folder.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) enum MetadataOrKeys {
    Metadata(GetMetadataData),
    Keys(Keys),
}
