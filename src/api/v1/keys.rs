//! What is answered where the service has key management. This server manages secrets only.

use serde::Serialize;
use utoipa::ToSchema;

use super::error::KvError;
use crate::{
    api::{
        body::JsonAnswer,
        docs::OkmsIdParam,
        error::{ApiError, ErrorResponses},
    },
    service::Caller,
};

/// A page of service keys.
#[derive(Serialize, ToSchema)]
pub(super) struct ListServiceKeysResponse {
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    objects_list: [(); 0],
    /// Always empty.
    continuation_token: &'static str,
    /// Always false.
    is_truncated: bool,
}

/// List service keys
///
/// Always empty: this server manages secrets only. Clients ask for it to see whether they are let in.
#[utoipa::path(
    get,
    path = "/servicekey",
    operation_id = "ListServiceKeys",
    tag = "Key management",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "No keys", body = ListServiceKeysResponse),
        ErrorResponses
    )
)]
pub(super) async fn list(_: Caller) -> Result<JsonAnswer<ListServiceKeysResponse>, KvError> {
    let (objects_list, continuation_token, is_truncated) = ([], "", false);
    Ok(JsonAnswer(ListServiceKeysResponse { objects_list, continuation_token, is_truncated }))
}

/// Answers all other requests of key management.
pub(super) async fn refuse(_: Caller) -> ApiError {
    ApiError::KeyManagement
}
