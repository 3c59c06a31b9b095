//! `/secret/{path}/version` and `/secret/{path}/version/{version}`.

use axum::{extract::State, response::Response};

use super::{
    answers::SecretV2Version,
    requests::{CreateVersion, SetVersionState},
    schemas::{PostSecretVersionV2Request, PutSecretVersionV2Request},
};
use crate::{
    api::{
        ApiState,
        body::{JsonAnswer, JsonBody},
        docs::{CasParam, DataParam, OkmsIdParam, OnceParam, PageParams, PathParam, VersionParam},
        error::{ApiError, BodyErrorResponses, ErrorResponses, OnceErrorResponses},
        extract::OwnDomain,
        paging::{PageRequest, page_answer},
        query::{CasQuery, NoQuery, ReadQuery},
    },
    domain::{SecretPath, VersionId},
    service::Caller,
};

/// List versions
///
/// All versions that are kept, ascending, the deactivated and deleted ones included, without data.
#[utoipa::path(
    get,
    path = "/secret/{path}/version",
    operation_id = "ListSecretVersionV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, PageParams),
    responses(
        (status = 200, description = "A page of versions", body = [SecretV2Version], headers(
            ("X-Pagination-Cursor-Next" = String, description = "Cursor of the next page; absent on the last one")
        )),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    path: SecretPath,
    page: PageRequest,
) -> Result<Response, ApiError> {
    let page =
        state.secrets.list_versions(&caller, &path, page.cursor.as_deref(), page.size).await?;
    let versions = page.items.into_iter().map(|item| SecretV2Version::new(item, Vec::new()));
    Ok(page_answer(versions.collect(), page.next.as_deref()))
}

/// Create a version
///
/// Adds a version to a secret. The oldest goes where the secret has as many as it keeps.
#[utoipa::path(
    post,
    path = "/secret/{path}/version",
    operation_id = "PostSecretVersionV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, CasParam, OnceParam),
    request_body = PostSecretVersionV2Request,
    responses(
        (status = 200, description = "The new version, without data", body = SecretV2Version),
        ErrorResponses,
        BodyErrorResponses,
        OnceErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/create"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    query: CasQuery,
    body: JsonBody,
) -> Result<JsonAnswer<SecretV2Version>, ApiError> {
    let JsonBody { caller, json, .. } = body;
    let CreateVersion { data, mut warnings } = CreateVersion::read(&json)?;
    let version = state.secrets.add_version(&caller, path, query.cas, data).await?;
    warnings.extend(query.warnings);
    Ok(JsonAnswer(SecretV2Version::new(version, warnings)))
}

/// Create a version, as the user guide writes it
///
/// The same as POST.
#[utoipa::path(
    put,
    path = "/secret/{path}/version",
    operation_id = "PutNewSecretVersionV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, CasParam, OnceParam),
    request_body = PostSecretVersionV2Request,
    responses(
        (status = 200, description = "The new version, without data", body = SecretV2Version),
        ErrorResponses,
        BodyErrorResponses,
        OnceErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/version/create"])))
)]
pub(super) async fn create_by_put(
    state: State<ApiState>,
    own_domain: OwnDomain,
    path: SecretPath,
    query: CasQuery,
    body: JsonBody,
) -> Result<JsonAnswer<SecretV2Version>, ApiError> {
    create(state, own_domain, path, query, body).await
}

/// Read a version
///
/// Data comes along where `includeData` is true and the version is active.
#[utoipa::path(
    get,
    path = "/secret/{path}/version/{version}",
    operation_id = "GetSecretVersionV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, VersionParam, DataParam),
    responses((status = 200, description = "The version", body = SecretV2Version), ErrorResponses),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get", "okms:apikms:secret/version/getData"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    path: SecretPath,
    version: VersionId,
    query: ReadQuery,
) -> Result<JsonAnswer<SecretV2Version>, ApiError> {
    query.only(version)?;
    let view = state.secrets.read_version(&caller, &path, version, query.include_data).await?;
    Ok(JsonAnswer(SecretV2Version::new(view, Vec::new())))
}

/// Activate, deactivate or delete a version
///
/// Deleting removes the data for good; the version stays in lists until it is pruned. Activating
/// starts the time until its automatic deactivation anew.
#[utoipa::path(
    put,
    path = "/secret/{path}/version/{version}",
    operation_id = "PutSecretVersionV2",
    tag = "Secret API",
    params(OkmsIdParam, PathParam, VersionParam),
    request_body = PutSecretVersionV2Request,
    responses(
        (status = 200, description = "The version, without data", body = SecretV2Version),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!([
        "okms:apikms:secret/version/delete",
        "okms:apikms:secret/version/activate",
        "okms:apikms:secret/version/deactivate"
    ])))
)]
pub(super) async fn set_state(
    State(state): State<ApiState>,
    _: OwnDomain,
    path: SecretPath,
    version: VersionId,
    query: NoQuery,
    body: JsonBody,
) -> Result<JsonAnswer<SecretV2Version>, ApiError> {
    let JsonBody { caller, json, .. } = body;
    let SetVersionState { state: target, mut warnings } = SetVersionState::read(&json)?;
    let view = state.secrets.set_version_state(&caller, path, version, target).await?;
    warnings.extend(query.warnings);
    Ok(JsonAnswer(SecretV2Version::new(view, warnings)))
}
