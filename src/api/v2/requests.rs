//! Request bodies as words of `domain`. Their documented form stands in [`schemas`](super::schemas).
//!
//! Names may be written as the API has them (`casRequired`) or as its guide has them
//! (`cas_required`); the four fields of metadata may stand inside `metadata` or, as the guide's table
//! lists them, beside it.

use crate::{
    api::{
        fields::{
            CAS_REQUIRED, CUSTOM_METADATA, DEACTIVATE_VERSION_AFTER, Fields, Given, MAX_VERSIONS,
            given_twice,
        },
        target::reads_as_versions,
    },
    domain::{
        Argument, CustomMetadata, Error, MetadataPatch, SecretConfigPatch, SecretData, SecretPath,
        VersionState, json::Json,
    },
};

/// `POST /secret`
pub(super) struct CreateSecret {
    pub(super) path: SecretPath,
    pub(super) metadata: MetadataPatch,
    pub(super) data: SecretData,
    pub(super) warnings: Vec<String>,
}

/// `PUT /secret/{path}`
pub(super) struct UpdateSecret {
    pub(super) metadata: MetadataPatch,
    pub(super) data: Option<SecretData>,
    pub(super) warnings: Vec<String>,
}

/// `POST /secret/{path}/version`
pub(super) struct CreateVersion {
    pub(super) data: SecretData,
    pub(super) warnings: Vec<String>,
}

/// `PUT /secret/{path}/version/{version}`
pub(super) struct SetVersionState {
    pub(super) state: VersionState,
    pub(super) warnings: Vec<String>,
}

/// `PUT /secretConfig`
pub(super) struct UpdateConfig {
    pub(super) patch: SecretConfigPatch,
    pub(super) warnings: Vec<String>,
}

impl CreateSecret {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let path = fields.string("path")?.ok_or_else(|| required("path"))?;
        let path = SecretPath::parse(path)?;
        let (metadata, mut warnings) = metadata(&mut fields)?;
        let (data, more) = version(&mut fields)?;
        warnings.extend(more);
        warnings.extend(fields.ignored());
        let data = data.ok_or_else(|| required("version.data"))?;
        if reads_as_versions(path.as_str()) {
            warnings.push(
                "the path ends like the address of versions: write its slashes as %2F where it \
                 stands in an address"
                    .to_owned(),
            );
        }
        Ok(Self { path, metadata: metadata.patch, data, warnings })
    }
}

impl UpdateSecret {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let (metadata, mut warnings) = metadata(&mut fields)?;
        let (data, more) = version(&mut fields)?;
        warnings.extend(more);
        warnings.extend(fields.ignored());
        if data.is_none() && !metadata.given {
            return Err(required("metadata or version"));
        }
        Ok(Self { metadata: metadata.patch, data, warnings })
    }
}

impl CreateVersion {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let data = fields.data()?.ok_or_else(|| required("data"))?;
        Ok(Self { data, warnings: fields.ignored() })
    }
}

impl SetVersionState {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let state = fields.string("state")?.ok_or_else(|| required("state"))?;
        Ok(Self { state: VersionState::parse(state)?, warnings: fields.ignored() })
    }
}

impl UpdateConfig {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let patch = fields.config()?;
        if patch == SecretConfigPatch::default() {
            return Err(required("casRequired, deactivateVersionAfter or maxVersions"));
        }
        Ok(Self { patch, warnings: fields.ignored() })
    }
}

/// Metadata of a body, and whether any of it was given.
struct Metadata {
    patch: MetadataPatch,
    given: bool,
}

/// Takes the fields of metadata, inside `metadata` and beside it.
fn metadata(fields: &mut Fields<'_>) -> Result<(Metadata, Vec<String>), Error> {
    let nested = fields.object("metadata", "metadata.")?;
    let Some(mut nested) = nested else {
        return Ok((metadata_fields(fields)?, Vec::new()));
    };
    for name in [CAS_REQUIRED, CUSTOM_METADATA, DEACTIVATE_VERSION_AFTER, MAX_VERSIONS] {
        if nested.has(name) && fields.has(name) {
            return Err(given_twice(name));
        }
    }
    let (inner, flat) = (metadata_fields(&mut nested)?, metadata_fields(fields)?);
    let merged = Metadata {
        given: inner.given || flat.given,
        patch: MetadataPatch {
            config: SecretConfigPatch {
                cas_required: inner.patch.config.cas_required.or(flat.patch.config.cas_required),
                max_versions: inner.patch.config.max_versions.or(flat.patch.config.max_versions),
                deactivate_version_after: inner
                    .patch
                    .config
                    .deactivate_version_after
                    .or(flat.patch.config.deactivate_version_after),
            },
            custom_metadata: inner.patch.custom_metadata.or(flat.patch.custom_metadata),
        },
    };
    Ok((merged, nested.ignored()))
}

fn metadata_fields(fields: &mut Fields<'_>) -> Result<Metadata, Error> {
    let config = fields.config()?;
    let (custom_metadata, custom_given) = match fields.custom_metadata()? {
        Given::Absent => (None, false),
        Given::Null => (Some(CustomMetadata::default()), true),
        // The official command line sends an empty map with every update; taken as "clear", it would
        // wipe what others wrote.
        Given::Value(map) if map.is_empty() => (None, true),
        Given::Value(map) => (Some(map), true),
    };
    let given = custom_given || config != SecretConfigPatch::default();
    Ok(Metadata { patch: MetadataPatch { config, custom_metadata }, given })
}

/// Takes the data in `version`; a version without data is a mistake, no version is none.
fn version(fields: &mut Fields<'_>) -> Result<(Option<SecretData>, Vec<String>), Error> {
    let Some(mut version) = fields.object("version", "version.")? else {
        return Ok((None, Vec::new()));
    };
    let data = version.data()?.ok_or_else(|| required("version.data"))?;
    Ok((Some(data), version.ignored()))
}

fn required(field: &str) -> Error {
    Error::argument(Argument::FieldRequired, format!("{field} is required"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(body: &str) -> Result<UpdateSecret, Error> {
        UpdateSecret::read(&Json::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn the_same_field_in_two_spellings_or_places_is_refused() {
        for body in [
            r#"{"casRequired":true,"cas_required":true}"#,
            r#"{"metadata":{"casRequired":true,"cas_required":true}}"#,
            r#"{"metadata":{"casRequired":true},"cas_required":true}"#,
            r#"{"metadata":{"max_versions":1},"maxVersions":1}"#,
            r#"{"metadata":{"custom_metadata":{}},"customMetadata":null}"#,
            r#"{"metadata":{"deactivateVersionAfter":"1s"},"deactivate_version_after":"1s"}"#,
        ] {
            assert!(matches!(update(body), Err(Error::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn fields_in_both_places_are_one_patch() {
        let body =
            r#"{"metadata":{"casRequired":true},"max_versions":3,"customMetadata":{"a":"b"}}"#;
        let patch = update(body).unwrap().metadata;
        assert_eq!(patch.config.cas_required, Some(true));
        assert_eq!(patch.config.max_versions, Some(3));
        assert_eq!(patch.custom_metadata.unwrap().entries()["a"], "b");
    }

    #[test]
    fn an_empty_map_keeps_and_null_clears_custom_metadata() {
        let custom = |body: &str| update(body).unwrap().metadata.custom_metadata;
        assert_eq!(custom(r#"{"metadata":{"customMetadata":{}}}"#), None);
        assert_eq!(custom(r#"{"customMetadata":null}"#), Some(CustomMetadata::default()));
    }

    #[test]
    fn an_update_of_nothing_is_refused() {
        for body in [
            "{}",
            r#"{"metadata":{}}"#,
            r#"{"metadata":null,"version":null}"#,
            r#"{"metadata":{"casRequired":null}}"#,
            r#"{"other":1}"#,
            r#"{"version":{}}"#,
        ] {
            let refused = update(body).err();
            let expected =
                |error: &Error| matches!(error, Error::Argument(Argument::FieldRequired, _));
            assert!(refused.as_ref().is_some_and(expected), "{body}");
        }
    }

    #[test]
    fn a_path_that_reads_as_versions_is_warned_of() {
        for (path, warnings) in [
            ("a/version", 1),
            ("a/version/3", 1),
            ("a/version/b", 1),
            ("version", 0),
            ("version/3", 0),
            ("a/version/3/b", 0),
            ("a/versions", 0),
        ] {
            let body = format!(r#"{{"path":"{path}","version":{{"data":{{}}}}}}"#);
            let create = CreateSecret::read(&Json::parse(body.as_bytes()).unwrap()).unwrap();
            assert_eq!(create.warnings.len(), warnings, "{path}");
        }
    }

    #[test]
    fn ignored_fields_are_named_without_their_values() {
        let body = r#"{"version":{"data":{},"x":"hunter2"},"metadata":{"maxVersion":3},"y":1}"#;
        let warnings = update(body).unwrap().warnings.join(" ");
        for name in ["version.x", "metadata.maxVersion", " y "] {
            assert!(warnings.contains(name), "{warnings}");
        }
        assert!(!warnings.contains("hunter2"));
    }
}
