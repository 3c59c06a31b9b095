//! The documented form of request bodies; `requests` reads them.

#![expect(dead_code, reason = "read by the OpenAPI document only")]

use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, schema::SchemaType},
};

/// New data.
#[derive(ToSchema)]
#[schema(example = json!({"data": {"login": "admin", "password": "my_secret_password"}}))]
#[serde(deny_unknown_fields)]
pub(super) struct PostSecretRequest {
    #[schema(schema_with = cas_beside_data_schema)]
    cas: Option<u32>,
    /// A JSON object of at most 64 KiB, up to 32 levels deep.
    #[schema(value_type = Object)]
    data: (),
    options: Option<PostSecretOptions>,
}

/// Of no type: each value but two is refused.
fn cas_beside_data_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some(
            "Null or 0, as some clients of Vault always send it, and without effect: the check-and-set \
             is the one of `options`.",
        ))
        .build()
}

/// A merge patch of the data (RFC 7396).
#[derive(ToSchema)]
#[schema(example = json!({"data": {"password": "my_new_password"}}))]
#[serde(deny_unknown_fields)]
pub(super) struct PatchSecretRequest {
    /// A JSON object; what comes out has at most 64 KiB, and up to 32 levels.
    #[schema(value_type = Object)]
    data: (),
    options: Option<PostSecretOptions>,
}

/// Options of a write. Others are ignored.
#[derive(ToSchema)]
pub(super) struct PostSecretOptions {
    /// Check-and-set: the write is done only if this is the number of the current version, or 0 where there is
    /// none.
    #[schema(minimum = 0, maximum = 24000)]
    cas: Option<u32>,
}

/// Versions of a secret.
#[derive(ToSchema)]
#[schema(example = json!({"versions": [1]}))]
#[serde(deny_unknown_fields)]
pub(super) struct SecretVersionsRequest {
    /// Their numbers, up to 1,000. Also taken as texts, or as one text with commas between.
    #[schema(min_items = 1)]
    versions: Vec<u32>,
}

/// Defaults for the secrets of a domain.
#[derive(ToSchema)]
#[schema(example = json!({"cas_required": false, "delete_version_after": "2160h", "max_versions": 20}))]
#[serde(deny_unknown_fields)]
pub(super) struct PostConfigRequest {
    /// Whether writes must name the current version in `options.cas`; a secret cannot lift it.
    cas_required: Option<bool>,
    /// How long a version can be read where its secret does not say. `0s`: for ever.
    #[schema(max_length = 64)]
    delete_version_after: Option<String>,
    /// How many versions are kept where their secret does not say. 0: 10.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: Option<u32>,
}

/// Settings and custom metadata of a secret.
#[derive(ToSchema)]
#[schema(example = json!({"custom_metadata": {"team": "X"}, "max_versions": 5}))]
#[serde(deny_unknown_fields)]
pub(super) struct SecretUpdatableMetadata {
    /// Whether writes must name the current version in `options.cas`.
    cas_required: Option<bool>,
    /// Up to 64 pairs. Not encrypted: no place for secrets.
    custom_metadata: Option<BTreeMap<String, Option<String>>>,
    /// How long a version can be read: a number of seconds, or numbers with the units s, m, h, d. `0s` is the
    /// default of the domain.
    #[schema(max_length = 64)]
    delete_version_after: Option<String>,
    /// How many versions are kept. 0 is the default of the domain, or else 10.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: Option<u32>,
}
