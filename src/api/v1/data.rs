//! `/secret/data/{path}` and `/secret/subkeys/{path}`.

use axum::{extract::State, http::StatusCode};

use super::{
    answers::{
        Closed, GetErrorResponseWithMetadata, GetSecretData, GetSubkeysData,
        GetSubkeysErrorResponseWithMetadata, PatchErrorResponseWithMetadata, VersionMetadata,
    },
    envelope::{
        Answer, GetSecretResponse, GetSecretSubkeysResponse, PatchSecretResponse,
        PostSecretResponse,
    },
    error::KvError,
    requests::{self, KvBody, KvWrite},
    schemas::{PatchSecretRequest, PostSecretRequest},
};
use crate::{
    api::{
        ApiState,
        body::JsonAnswer,
        docs::{DepthParam, KvVersionParam, OkmsIdParam, OnceParam, PathParam},
        envelope::RequestId,
        error::{BodyErrorResponses, ErrorResponses, OnceErrorResponses, OtherErrorResponses},
        extract::OwnDomain,
        query::KvReadQuery,
    },
    domain::{SecretPath, VersionState},
    service::Caller,
};

/// Read data
///
/// The data of the current version, or of the one asked for. A version that is deleted or destroyed is a
/// 404 that has the version's metadata in its `data`.
#[utoipa::path(
    get,
    path = "/secret/data/{path}",
    operation_id = "GetSecretRequest",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam, KvVersionParam),
    responses(
        (status = 200, description = "The version", body = GetSecretResponse),
        (status = 404, description = "There is no such version, or it is deleted or destroyed", body = GetErrorResponseWithMetadata),
        OtherErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/getData"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    request_id: RequestId,
    caller: Caller,
    path: SecretPath,
    query: KvReadQuery,
) -> Result<JsonAnswer<Answer<GetSecretData>>, KvError> {
    let opened = state.secrets.open(&caller, &path, query.version).await;
    let opened = opened.map_err(|error| Closed::Data.answer(error))?;
    Ok(JsonAnswer(Answer::new(request_id, GetSecretData::new(opened))))
}

/// Write data
///
/// Adds a version, and makes the secret where there is none yet.
#[utoipa::path(
    post,
    path = "/secret/data/{path}",
    operation_id = "PostSecretRequest",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam, OnceParam),
    request_body = PostSecretRequest,
    responses(
        (status = 200, description = "The new version", body = PostSecretResponse),
        ErrorResponses,
        BodyErrorResponses,
        OnceErrorResponses
    ),
    extensions(("x-iam-actions" = json!([
        "okms:apikms:secret/create",
        "okms:apikms:secret/version/create"
    ])))
)]
pub(super) async fn write(
    State(state): State<ApiState>,
    request_id: RequestId,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<JsonAnswer<Answer<VersionMetadata>>, KvError> {
    let KvWrite { data, cas } = KvWrite::read(&body.json)?;
    let written = state.secrets.put(&body.caller, path, cas, data).await?;
    Ok(JsonAnswer(Answer::new(request_id, VersionMetadata::new(&written.secret, &written.version))))
}

/// Patch data
///
/// Adds a version that is the current one after a JSON merge patch (RFC 7396).
#[utoipa::path(
    patch,
    path = "/secret/data/{path}",
    operation_id = "PatchSecretRequest",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam, OnceParam),
    request_body(content(
        (PatchSecretRequest = "application/merge-patch+json"),
        (PatchSecretRequest = "application/json")
    )),
    responses(
        (status = 200, description = "The new version", body = PatchSecretResponse),
        (status = 404, description = "There is no such version, or it is deleted or destroyed", body = PatchErrorResponseWithMetadata),
        OtherErrorResponses,
        BodyErrorResponses,
        OnceErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/create"])))
)]
pub(super) async fn patch(
    State(state): State<ApiState>,
    request_id: RequestId,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<JsonAnswer<Answer<VersionMetadata>>, KvError> {
    let (patch, cas) = requests::patch(&body.json)?;
    let written = state.secrets.patch(&body.caller, path, cas, patch).await;
    let written = written.map_err(|error| Closed::Metadata.answer(error))?;
    Ok(JsonAnswer(Answer::new(request_id, VersionMetadata::new(&written.secret, &written.version))))
}

/// Delete the current version
///
/// Its data is kept, and can be brought back by undelete.
#[utoipa::path(
    delete,
    path = "/secret/data/{path}",
    operation_id = "DeleteSecretRequest",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    responses((status = 204, description = "The current version is deleted"), ErrorResponses),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/deactivate"])))
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    path: SecretPath,
) -> Result<StatusCode, KvError> {
    let closed = VersionState::Deactivated;
    state.secrets.set_version_states(&caller, path, None, closed).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read the keys inside data
///
/// The data without its values.
#[utoipa::path(
    get,
    path = "/secret/subkeys/{path}",
    operation_id = "GetSecretSubkeys",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam, DepthParam, KvVersionParam),
    responses(
        (status = 200, description = "The keys", body = GetSecretSubkeysResponse),
        (status = 404, description = "There is no such version, or it is deleted or destroyed", body = GetSubkeysErrorResponseWithMetadata),
        OtherErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/subKeys/get"])))
)]
pub(super) async fn read_keys(
    State(state): State<ApiState>,
    request_id: RequestId,
    caller: Caller,
    path: SecretPath,
    query: KvReadQuery,
) -> Result<JsonAnswer<Answer<GetSubkeysData>>, KvError> {
    let opened = state.secrets.open_keys(&caller, &path, query.version, query.depth).await;
    let opened = opened.map_err(|error| Closed::Subkeys.answer(error))?;
    Ok(JsonAnswer(Answer::new(request_id, GetSubkeysData::new(opened))))
}
