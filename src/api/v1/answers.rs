//! What answers of KV2 hold; see [`envelope`](super::envelope) for their form.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::error::KvError;
use crate::{
    api::{body::raw_json, error::ApiError},
    domain::{CustomMetadata, Error, Secret, SecretConfig, SecretData, Version, resource_urn},
    service::{Caller, OpenedVersion, VersionView},
};

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
#[derive(Serialize)]
pub(super) struct GetMetadataData {
    cas_required: bool,
    created_time: String,
    current_version: u32,
    custom_metadata: Option<BTreeMap<String, String>>,
    delete_version_after: String,
    max_versions: u32,
    oldest_version: u32,
    updated_time: String,
    urn: String,
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
#[derive(Serialize)]
pub(super) struct Keys {
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

/// The documented form of what is known of a secret ([`GetMetadataData`]), or of the names in a folder
/// ([`Keys`]): the one or the other.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct SecretMetadata {
    /// Names of secrets, and of folders with a slash behind them. Of a list only, which has nothing else.
    #[schema(nullable = false)]
    keys: Option<Vec<String>>,
    /// Whether writes must name the current version in `options.cas`. The domain may require it besides.
    #[schema(nullable = false)]
    cas_required: Option<bool>,
    #[schema(format = DateTime, nullable = false, example = "2026-11-23T09:30:00.123000000Z")]
    created_time: Option<String>,
    /// The number of the newest version; 0 before the first.
    #[schema(minimum = 0, maximum = 24000, nullable = false)]
    current_version: Option<u32>,
    /// Null where there is none.
    custom_metadata: Option<BTreeMap<String, String>>,
    /// `0s` where it is not set.
    #[schema(nullable = false, example = "24h0m0s")]
    delete_version_after: Option<String>,
    /// 0 where it is not set.
    #[schema(minimum = 0, maximum = 24000, nullable = false)]
    max_versions: Option<u32>,
    /// 0 until the first version was pruned, then the lowest number still kept.
    #[schema(minimum = 0, maximum = 24000, nullable = false)]
    oldest_version: Option<u32>,
    #[schema(format = DateTime, nullable = false, example = "2026-11-23T09:30:00.123000000Z")]
    updated_time: Option<String>,
    #[schema(
        nullable = false,
        example = "urn:v1:eu:resource:okms:7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/secret/prod%2Fdatabase%2FMySQL"
    )]
    urn: Option<String>,
    /// The versions by their numbers.
    #[schema(nullable = false)]
    versions: Option<BTreeMap<String, VersionMetadataShort>>,
}

/// The documented form of an error that has something beside it.
macro_rules! documented_error {
    ($($(#[$doc:meta])* $name:ident with $data:ty;)*) => {$(
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "read by the OpenAPI document only")]
        pub(super) struct $name {
            /// A short name of the kind of error, stable across releases.
            error_id: String,
            /// The code of the error.
            error_code: i32,
            /// What went wrong.
            errors: Vec<String>,
            /// The id under which the server's log has this request.
            request_id: String,
            /// What is known of a version that is deleted or destroyed; absent with any other error.
            #[schema(nullable = false)]
            data: Option<$data>,
        }
    )*};
}

documented_error! {
    /// An error; of a closed version, with its metadata.
    GetErrorResponseWithMetadata with ClosedData;
    /// An error; of a closed version, with its metadata.
    GetSubkeysErrorResponseWithMetadata with ClosedSubkeys;
    /// An error; of a closed version, its metadata.
    PatchErrorResponseWithMetadata with VersionMetadata;
}

/// A version whose data cannot be read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct ClosedData {
    /// Always null.
    #[schema(value_type = Option<Object>)]
    data: Option<()>,
    metadata: VersionMetadata,
}

/// A version whose keys cannot be read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct ClosedSubkeys {
    metadata: VersionMetadata,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    subkeys: Option<()>,
}
