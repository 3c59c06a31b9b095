//! `/secret/config`.

use axum::{extract::State, http::StatusCode};

use super::{
    answers::GetConfigData,
    envelope::{Answer, GetConfigResponse},
    error::KvError,
    requests::{self, KvBody},
    schemas::PostConfigRequest,
};
use crate::{
    api::{
        ApiState,
        body::JsonAnswer,
        docs::OkmsIdParam,
        envelope::RequestId,
        error::{BodyErrorResponses, ErrorResponses},
        extract::OwnDomain,
    },
    service::Caller,
};

/// Read the defaults of the domain
///
/// What secrets without settings of their own go by.
#[utoipa::path(
    get,
    path = "/secret/config",
    operation_id = "GetSecretConfig",
    tag = "KV2 API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The defaults", body = GetConfigResponse),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secretConfig/get"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    request_id: RequestId,
    caller: Caller,
) -> Result<JsonAnswer<Answer<GetConfigData>>, KvError> {
    let config = state.secrets.config(&caller).await?;
    Ok(JsonAnswer(Answer::new(request_id, GetConfigData::new(&config))))
}

/// Change the defaults of the domain
///
/// What is left out stays as it is.
#[utoipa::path(
    post,
    path = "/secret/config",
    operation_id = "PostSecretConfig",
    tag = "KV2 API",
    params(OkmsIdParam),
    request_body = PostConfigRequest,
    responses(
        (status = 204, description = "The defaults are changed"),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secretConfig/update"])))
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    _: OwnDomain,
    body: KvBody,
) -> Result<StatusCode, KvError> {
    let patch = requests::config(&body.json)?;
    state.secrets.update_config(&body.caller, patch).await?;
    Ok(StatusCode::NO_CONTENT)
}
