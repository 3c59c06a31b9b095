//! The documented form of request bodies. [`requests`](super::requests) reads them, since it must tell
//! duplicate, misspelt and null fields apart, keep numbers exact and never repeat a value in an error.
//! A test sends the examples below to the server, so the two cannot drift.

#![expect(dead_code, reason = "read by the OpenAPI document only")]

use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{SchemaType, Type},
    },
};

use crate::domain::CustomMetadata;

/// A new secret.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({
    "path": "prod/database/MySQL",
    "metadata": {
        "casRequired": true,
        "customMetadata": {"project": "A", "team": "X"},
        "deactivateVersionAfter": "10h30m10s",
        "maxVersions": 5
    },
    "version": {"data": {
        "login": "admin",
        "password": "my_secret_password",
        "address": {"ip": "192.0.2.1"},
        "ports": ["3306", "33060"]
    }}
}))]
pub(super) struct PostSecretV2Request {
    /// Where the secret will be. Segments are separated by single slashes.
    #[schema(min_length = 1, max_length = 255, pattern = "^[a-zA-Z0-9_.:/=@-]+$")]
    path: String,
    metadata: Option<SecretV2MetadataShort>,
    version: SecretV2VersionShort,
}

/// Changes of a secret: of its metadata, its data, or both as one.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({
    "metadata": {"maxVersions": 10},
    "version": {"data": {"login": "admin", "password": "my_new_password"}}
}))]
pub(super) struct PutSecretV2Request {
    metadata: Option<SecretV2MetadataShort>,
    version: Option<SecretV2VersionShort>,
}

/// Settings of a secret. Each also is taken under its name in snake case, and beside `metadata`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct SecretV2MetadataShort {
    /// Whether writes must name the current version in `cas`.
    cas_required: Option<bool>,
    #[schema(schema_with = custom_metadata_schema)]
    custom_metadata: Option<BTreeMap<String, String>>,
    /// How long a version stays active: a number of seconds, or numbers with the units s, m, h, d.
    /// `0s` is the default of the domain.
    #[schema(example = "7d1h30m10s", max_length = 64)]
    deactivate_version_after: Option<String>,
    /// How many versions are kept. 0 is the default of the domain, or else 10.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: Option<u32>,
}

fn custom_metadata_schema() -> Object {
    let text = |max_length: usize| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(max_length))
            .pattern(Some("^[a-zA-Z0-9_.:/=@%-]+$"))
    };
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Up to 64 pairs. On an update, a map with entries replaces the whole map, an empty one \
             keeps it, and null clears it. Not encrypted: no place for secrets.",
        ))
        .max_properties(Some(CustomMetadata::MAX_ENTRIES))
        .property_names(Some(text(CustomMetadata::MAX_KEY_LEN)))
        .additional_properties(Some(text(CustomMetadata::MAX_VALUE_LEN)))
        .build()
}

/// Data of a version.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct SecretV2VersionShort {
    /// A JSON object of at most 64 KiB, up to 32 levels deep.
    #[schema(value_type = Object)]
    data: (),
}

/// A new version.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({"data": {"login": "admin", "password": "my_new_password"}}))]
pub(super) struct PostSecretVersionV2Request {
    /// A JSON object of at most 64 KiB, up to 32 levels deep.
    #[schema(value_type = Object)]
    data: (),
}

/// The state that a version shall have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({"state": "deactivated"}))]
pub(super) struct PutSecretVersionV2Request {
    state: super::answers::SecretV2State,
}

/// Defaults for the secrets of a domain; what is left out stays as it is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({"casRequired": true, "deactivateVersionAfter": "90d", "maxVersions": 20}))]
pub(super) struct PutSecretConfigV2Request {
    /// Whether writes must name the current version in `cas`; a secret cannot lift it.
    cas_required: Option<bool>,
    /// How long a version stays active where its secret does not say. `0s`: for ever.
    #[schema(max_length = 64)]
    deactivate_version_after: Option<String>,
    /// How many versions are kept where their secret does not say. 0: 10.
    #[schema(minimum = 0, maximum = 24000)]
    max_versions: Option<u32>,
}
