//! `/secret/metadata` and `/secret/metadata/{path}`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    answers::{GetMetadataData, Keys},
    envelope::{Answer, GetMetadataResponse, Warnings},
    error::{KvError, in_kv2_words},
    requests::{self, KvBody, MetadataTarget},
    schemas::SecretUpdatableMetadata,
};
use crate::{
    api::{
        ApiState,
        body::{JsonAnswer, NoBody},
        docs::{ListParam, OkmsIdParam, PageParams, PathParam},
        envelope::RequestId,
        error::{BodyErrorResponses, ErrorResponse, ErrorResponses},
        extract::OwnDomain,
        paging::{OptionalPage, with_next},
        query::EmptyQuery,
    },
    domain::{Error, SecretPath},
    service::Caller,
};

/// List the root
///
/// What stands directly in the root: names of secrets, and those of folders with a slash behind them. All of
/// it where no header of a page is sent.
#[utoipa::path(
    get,
    path = "/secret/metadata",
    operation_id = "ListSecretsMetadata",
    tag = "KV2 API",
    params(OkmsIdParam, PageParams),
    responses(
        (status = 200, description = "The names", body = GetMetadataResponse, headers(
            ("X-Pagination-Cursor-Next" = String, description = "Cursor of the next page; absent on the last one")
        )),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    request_id: RequestId,
    caller: Caller,
    page: OptionalPage,
) -> Result<Response, KvError> {
    answer_list(&state, request_id, &caller, "", page).await
}

/// Read metadata, or list a folder
///
/// The settings of a secret and all its versions; or, with `list=true`, what stands directly below the path.
#[utoipa::path(
    get,
    path = "/secret/metadata/{path}",
    operation_id = "GetSecretsMetadata",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam, ListParam, PageParams),
    responses(
        (status = 200, description = "The metadata, or the names", body = GetMetadataResponse, headers(
            ("X-Pagination-Cursor-Next" = String, description = "Cursor of the next page; absent on the last one")
        )),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/get"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    request_id: RequestId,
    caller: Caller,
    target: MetadataTarget,
    page: OptionalPage,
) -> Result<Response, KvError> {
    let path = match target {
        MetadataTarget::Folder(folder) => {
            return answer_list(&state, request_id, &caller, folder.as_str(), page).await;
        }
        MetadataTarget::Secret(path) => path,
    };
    let (secret, versions) = state.secrets.metadata(&caller, &path).await?;
    let data = GetMetadataData::new(&caller, &secret, versions);
    Ok(JsonAnswer(Answer::new(request_id, data)).into_response())
}

/// Write metadata
///
/// What is given takes the place of what was; what is left out stays. A path without a secret gets one
/// without versions.
#[utoipa::path(
    post,
    path = "/secret/metadata/{path}",
    operation_id = "PostSecretMetadata",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    request_body = SecretUpdatableMetadata,
    responses(
        (status = 200, description = "Written, with warnings", body = Warnings),
        (status = 204, description = "Written"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/updateMetadata"])))
)]
pub(super) async fn write(
    State(state): State<ApiState>,
    request_id: RequestId,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<Response, KvError> {
    let metadata = requests::metadata(&body.json)?;
    let warnings = state.secrets.put_metadata(&body.caller, path, metadata).await?;
    Ok(answer_warnings(request_id, &warnings))
}

/// Patch metadata
///
/// A JSON merge patch (RFC 7396): null brings a setting back to its default, and removes a pair of the custom
/// metadata.
#[utoipa::path(
    patch,
    path = "/secret/metadata/{path}",
    operation_id = "PatchSecretMetadata",
    tag = "KV2 API",
    params(OkmsIdParam, PathParam),
    request_body(content(
        (SecretUpdatableMetadata = "application/merge-patch+json"),
        (SecretUpdatableMetadata = "application/json")
    )),
    responses(
        (status = 200, description = "Written, with warnings", body = Warnings),
        (status = 204, description = "Written"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secret/updateMetadata"])))
)]
pub(super) async fn patch(
    State(state): State<ApiState>,
    request_id: RequestId,
    _: OwnDomain,
    path: SecretPath,
    body: KvBody,
) -> Result<Response, KvError> {
    let (config, custom_metadata) = requests::metadata_patch(&body.json)?;
    let written = state.secrets.merge_metadata(&body.caller, path, config, custom_metadata);
    Ok(answer_warnings(request_id, &written.await?))
}

/// Delete a secret
///
/// Removes the secret with all its versions, for good. A query or a body, which would be to name some of them, is
/// refused.
#[utoipa::path(
    delete,
    path = "/secret/metadata/{path}",
    operation_id = "DeleteSecretMetadata",
    tag = "KV2 API",
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
) -> Result<StatusCode, KvError> {
    match state.secrets.delete(&caller, path).await {
        // Clients of KV2 expect that what they delete may be gone already.
        Ok(()) | Err(Error::SecretNotFound) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

async fn answer_list(
    state: &ApiState,
    request_id: RequestId,
    caller: &Caller,
    folder: &str,
    OptionalPage(page): OptionalPage,
) -> Result<Response, KvError> {
    let size = page.as_ref().map(|page| page.size);
    let cursor = page.as_ref().and_then(|page| page.cursor.as_deref());
    let mut listed = state.secrets.list_folder(caller, folder, cursor, size).await?;
    if listed.page.items.is_empty() && !folder.is_empty() && cursor.is_none() {
        // There is no folder without secrets in it.
        return Err(Error::SecretNotFound.into());
    }
    let keys = std::mem::take(&mut listed.page.items);
    let next = listed.page.next.take();
    let answer = JsonAnswer(Answer::new(request_id, Keys { keys }));
    Ok(with_next(answer.kept_with(|| listed.written()), next.as_deref()))
}

fn answer_warnings(request_id: RequestId, warnings: &[String]) -> Response {
    if warnings.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let warnings = warnings.iter().map(|text| in_kv2_words(text)).collect();
    JsonAnswer(Warnings::new(request_id, warnings)).into_response()
}
