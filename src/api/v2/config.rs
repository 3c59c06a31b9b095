//! `/secretConfig`.

use axum::extract::State;

use super::{
    answers::SecretConfigV2Response, requests::UpdateConfig, schemas::PutSecretConfigV2Request,
};
use crate::{
    api::{
        ApiState,
        body::{JsonAnswer, JsonBody},
        docs::OkmsIdParam,
        error::{ApiError, BodyErrorResponses, ErrorResponses},
        extract::OwnDomain,
        query::NoQuery,
    },
    service::Caller,
};

/// Read the defaults of the domain
#[utoipa::path(
    get,
    path = "/secretConfig",
    operation_id = "GetSecretConfigV2",
    tag = "Secret API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The defaults", body = SecretConfigV2Response),
        ErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secretConfig/get"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<JsonAnswer<SecretConfigV2Response>, ApiError> {
    let config = state.secrets.config(&caller).await?;
    Ok(JsonAnswer(SecretConfigV2Response::new(&config, Vec::new())))
}

/// Change the defaults of the domain
///
/// They count for all secrets of the domain that do not say otherwise, from the next request on.
#[utoipa::path(
    put,
    path = "/secretConfig",
    operation_id = "PutSecretConfigV2",
    tag = "Secret API",
    params(OkmsIdParam),
    request_body = PutSecretConfigV2Request,
    responses(
        (status = 200, description = "The defaults as they are now", body = SecretConfigV2Response),
        ErrorResponses,
        BodyErrorResponses
    ),
    extensions(("x-iam-actions" = json!(["okms:apikms:secretConfig/update"])))
)]
pub(super) async fn update(
    State(state): State<ApiState>,
    _: OwnDomain,
    query: NoQuery,
    body: JsonBody,
) -> Result<JsonAnswer<SecretConfigV2Response>, ApiError> {
    let JsonBody { caller, json, .. } = body;
    let UpdateConfig { patch, mut warnings } = UpdateConfig::read(&json)?;
    let config = state.secrets.update_config(&caller, patch).await?;
    warnings.extend(query.warnings);
    Ok(JsonAnswer(SecretConfigV2Response::new(&config, warnings)))
}
