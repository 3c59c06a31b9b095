//! `/secret/delete/{path}`, `/secret/undelete/{path}` and `/secret/destroy/{path}`.

use axum::{extract::State, http::StatusCode};

use super::{
    error::KvError,
    requests::{self, KvBody},
    schemas::SecretVersionsRequest,
};
use crate::{
    api::{
        ApiState,
        docs::{OkmsIdParam, PathParam},
        error::{BodyErrorResponses, ErrorResponses},
        extract::OwnDomain,
    },
    domain::{SecretPath, VersionState},
};

/// Delete versions
///
/// Their data is kept, and can be brought back by undelete. Versions that are not there are passed over.
#[utoipa::path(
    post,
    path = "/secret/delete/{path}",
    operation_id = "DeleteSecretVersions",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    request_body = SecretVersionsRequest,
    responses(
        (status = 204, description = "The versions are deleted"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/deactivate"])))
)]
pub(super) async fn delete(
    state: State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<StatusCode, KvError> {
    set_states(state, path, body, VersionState::Deactivated).await
}

/// Undelete versions
///
/// Their time until they are deleted by their age starts anew. Versions that are destroyed, or not there, are
/// passed over.
#[utoipa::path(
    post,
    path = "/secret/undelete/{path}",
    operation_id = "PostSecretUndelete",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    request_body = SecretVersionsRequest,
    responses(
        (status = 204, description = "The versions can be read"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/activate"])))
)]
pub(super) async fn undelete(
    state: State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<StatusCode, KvError> {
    set_states(state, path, body, VersionState::Active).await
}

/// Destroy versions
///
/// Their data is gone for good. Versions that are not there are passed over.
#[utoipa::path(
    put,
    path = "/secret/destroy/{path}",
    operation_id = "PutSecretDestroy",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    request_body = SecretVersionsRequest,
    responses(
        (status = 204, description = "The versions are destroyed"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/delete"])))
)]
pub(super) async fn destroy(
    state: State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<StatusCode, KvError> {
    set_states(state, path, body, VersionState::Deleted).await
}

async fn set_states(
    State(state): State<ApiState>,
    path: SecretPath,
    body: KvBody,
    target: VersionState,
) -> Result<StatusCode, KvError> {
    let versions = requests::versions(&body.json)?;
    state.secrets.set_version_states(&body.caller, path, Some(versions), target).await?;
    Ok(StatusCode::NO_CONTENT)
}
