//! A way in for `tests/fuzz`, which no other build has.

use super::requests::{CreateSecret, CreateVersion, SetVersionState, UpdateConfig, UpdateSecret};
use crate::domain::{Error, MetadataPatch, SecretConfigPatch, SecretData, SecretPath, json::Json};

/// What `POST /secret` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn create(body: &Json) -> Result<(SecretPath, MetadataPatch, SecretData), Error> {
    CreateSecret::read(body).map(|it| (it.path, it.metadata, it.data))
}

/// What `PUT /secret/{path}` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn update(body: &Json) -> Result<(MetadataPatch, Option<SecretData>), Error> {
    UpdateSecret::read(body).map(|it| (it.metadata, it.data))
}

/// What `POST /secret/{path}/version` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn version(body: &Json) -> Result<SecretData, Error> {
    CreateVersion::read(body).map(|it| it.data)
}

/// What `PUT /secretConfig` is asked for.
///
/// # Errors
///
/// Whatever is wrong with the body.
pub fn config(body: &Json) -> Result<SecretConfigPatch, Error> {
    UpdateConfig::read(body).map(|it| it.patch)
}

/// Whether `PUT /secret/{path}/version/{version}` would be taken.
pub fn takes_state(body: &Json) -> bool {
    SetVersionState::read(body).is_ok()
}
