//! The form of answers: what is asked for stands in `data`, beside the id of the request. Of what else Vault
//! has there, clients miss nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    answers::{GetConfigData, GetSecretData, GetSubkeysData, SecretMetadata, VersionMetadata},
    auth::{LookupSelfData, TokenAuth},
    system::{Mount, UiMounts},
};
use crate::api::envelope::RequestId;

/// Something that was asked for.
#[derive(Serialize)]
pub(super) struct Answer<T> {
    request_id: Arc<str>,
    data: T,
}

impl<T> Answer<T> {
    pub(super) fn new(RequestId(request_id): RequestId, data: T) -> Self {
        Self { request_id, data }
    }
}

/// What the writer should know.
#[derive(Serialize, ToSchema)]
pub(super) struct Warnings {
    /// The id under which the server's log has this request.
    request_id: String,
    /// What was stored and does not have the effect that it seems to have.
    warnings: Vec<String>,
}

impl Warnings {
    pub(super) fn new(RequestId(request_id): RequestId, warnings: Vec<String>) -> Self {
        Self { request_id: request_id.to_string(), warnings }
    }
}

/// A token that was given, or prolonged.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    /// The id under which the server's log has this request.
    request_id: String,
    auth: TokenAuth,
}

impl TokenAnswer {
    pub(super) fn new(RequestId(request_id): RequestId, auth: TokenAuth) -> Self {
        Self { request_id: request_id.to_string(), auth }
    }
}

/// The documented form of an answer, by the name that the service has for it.
macro_rules! documented {
    ($($(#[$doc:meta])* $name:ident of $data:ty;)*) => {$(
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "read by the OpenAPI document only")]
        pub(super) struct $name {
            /// The id under which the server's log has this request.
            #[schema(example = "OKMS.2b6f5a9e-52a4-4f0e-8d2c-6b1f3d0a9c11")]
            request_id: String,
            data: $data,
        }
    )*};
}

documented! {
    /// The defaults of the domain.
    GetConfigResponse of GetConfigData;
    /// A version with its data.
    GetSecretResponse of GetSecretData;
    /// The new version.
    PostSecretResponse of VersionMetadata;
    /// The new version.
    PatchSecretResponse of VersionMetadata;
    /// A version with the keys of its data.
    GetSecretSubkeysResponse of GetSubkeysData;
    /// The metadata of a secret, or the names in a folder.
    GetMetadataResponse of SecretMetadata;
    /// What is known of the caller.
    LookupSelfAnswer of LookupSelfData;
    /// A mount.
    MountAnswer of Mount;
    /// All mounts.
    MountsAnswer of BTreeMap<&'static str, Mount>;
    /// The mounts that a user interface shows.
    UiMountsAnswer of UiMounts;
}
