//! `/secret` and `/secret/{path}`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    answers::{GetSecretV2Response, WrittenSecretV2Response},
    requests::{CreateSecret, UpdateSecret},
    schemas::{PostSecretV2Request, PutSecretV2Request},
};
use crate::{
    api::{
        ApiState,
        body::{JsonAnswer, JsonBody, NoBody},
        docs::{CasParam, OkmsIdParam, OnceParam, PageParams, PathParam, ReadParams},
        error::{ApiError, BodyErrorResponses, ErrorResponse, ErrorResponses, OnceErrorResponses},
        extract::OwnDomain,
        paging::{PageRequest, page_answer},
        query::{CasQuery, EmptyQuery, NoQuery, ReadQuery},
    },
    domain::SecretPath,
    service::Caller,
};

/// List secrets
///
/// The secrets of the domain that the caller may get, by path, each with its current version but
/// without data.
#[utoipa::path(
    get,
    path = "/secret",
    operation_id = "ListSecretV2",
    tag = "Secret API",
    params(OkmsIdParam, PageParams),
    responses(
        (status = 200, description = "A page of secrets", body = [GetSecretV2Response], headers(
            ("X-Pagination-Cursor-Next" = String, description = "Cursor of the next page; absent on the last one")
        )),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    page: PageRequest,
) -> Result<Response, ApiError> {
    let page = state.secrets.list(&caller, page.cursor.as_deref(), page.size).await?;
    let secrets = page.items.into_iter().map(|item| GetSecretV2Response::new(&caller, item));
    Ok(page_answer(secrets.collect(), page.next.as_deref()))
}

/// Create a secret
///
/// Makes a secret with its first version. A path that has a secret already is refused.
#[utoipa::path(
    post,
    path = "/secret",
    operation_id = "PostSecretV2",
    tag = "Secret API",
    params(OkmsIdParam, OnceParam),
    request_body = PostSecretV2Request,
    responses(
        (status = 200, description = "The new secret", body = WrittenSecretV2Response),
        (
            status = 409,
            description = "There is a secret at this path already, or a request with this Idempotency-Key is under way",
            body = ErrorResponse
        ),
        (status = 422, description = "The Idempotency-Key was used for another request", body = ErrorResponse),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/create"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    _: OwnDomain,
    query: NoQuery,
    body: JsonBody,
) -> Result<JsonAnswer<WrittenSecretV2Response>, ApiError> {
    let JsonBody { caller, json, .. } = body;
    let CreateSecret { path, metadata, data, mut warnings } = CreateSecret::read(&json)?;
    let written = state.secrets.create(&caller, path, metadata, data).await?;
    warnings.extend(query.warnings);
    warnings.extend(written.warnings);
    Ok(JsonAnswer(WrittenSecretV2Response::new(&caller, written.secret, warnings)))
}

/// Read a secret
///
/// The secret with its current version, or the one asked for. Data comes along where `includeData` is
/// true and the version is active.
#[utoipa::path(
    get,
    path = "/secret/{path}",
    operation_id = "GetSecretV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, ReadParams),
    responses(
        (status = 200, description = "The secret", body = GetSecretV2Response),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get", "okms:apikms:secret/version/getData"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    path: SecretPath,
    query: ReadQuery,
) -> Result<JsonAnswer<GetSecretV2Response>, ApiError> {
    let view = state.secrets.read(&caller, &path, query.version, query.include_data).await?;
    Ok(JsonAnswer(GetSecretV2Response::new(&caller, view)))
}

/// Update a secret
///
/// Changes metadata, adds a version, or does both as one. Data makes a new version even if it is the
/// same as before; metadata alone makes none.
#[utoipa::path(
    put,
    path = "/secret/{path}",
    operation_id = "PutSecretV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, CasParam, OnceParam),
    request_body = PutSecretV2Request,
    responses(
        (status = 200, description = "The secret as it is now", body = WrittenSecretV2Response),
        ErrorResponses,
        BodyErrorResponses,
        OnceErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/create", "okms:apikms:secret/updateMetadata"])))
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    query: CasQuery,
    body: JsonBody,
) -> Result<JsonAnswer<WrittenSecretV2Response>, ApiError> {
    let JsonBody { caller, json, .. } = body;
    let UpdateSecret { metadata, data, mut warnings } = UpdateSecret::read(&json)?;
    let written = state.secrets.update(&caller, path, query.cas, metadata, data).await?;
    warnings.extend(query.warnings);
    warnings.extend(written.warnings);
    Ok(JsonAnswer(WrittenSecretV2Response::new(&caller, written.secret, warnings)))
}

/// Delete a secret
///
/// Removes the secret with all its versions, for good. A query or a body, which would be to name some of them, is
/// refused.
#[utoipa::path(
    delete,
    path = "/secret/{path}",
    operation_id = "DeleteSecretV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam),
    responses(
        (status = 204, description = "The secret is gone"),
        (status = 408, description = "A body was announced and did not end in time", body = ErrorResponse),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/delete"])))
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    _: EmptyQuery,
    NoBody { caller }: NoBody,
) -> Result<Response, ApiError> {
    state.secrets.delete(&caller, path).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
