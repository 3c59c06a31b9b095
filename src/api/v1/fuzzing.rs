//! A way in for `tests/fuzz`, which no other build has.

use super::requests::{self, KvWrite};
use crate::domain::{Error, MetadataPatch, SecretConfigPatch, SecretData, VersionId, json::Json};

/// What `POST /secret/data/{path}` is asked for: data, and the check-and-set.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn write(body: &Json) -> Result<(SecretData, Option<u32>), Error> {
    KvWrite::read(body).map(|it| (it.data, it.cas))
}

/// What `PATCH /secret/data/{path}` is asked for: a merge patch, and the check-and-set.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn patch(body: &Json) -> Result<(Json, Option<u32>), Error> {
    requests::patch(body)
}

/// Which versions a body names.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn versions(body: &Json) -> Result<Vec<VersionId>, Error> {
    requests::versions(body)
}

/// What `POST /secret/config` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn config(body: &Json) -> Result<SecretConfigPatch, Error> {
    requests::config(body)
}

/// What `POST /secret/metadata/{path}` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn metadata(body: &Json) -> Result<MetadataPatch, Error> {
    requests::metadata(body)
}

/// Whether `PATCH /secret/metadata/{path}` would be taken.
pub fn takes_metadata_patch(body: &Json) -> bool {
    requests::metadata_patch(body).is_ok()
}
