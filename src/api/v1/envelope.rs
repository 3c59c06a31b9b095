//! The form of answers: what is asked for stands in `data`, beside the id of the request and, as strictly typed
//! clients of Vault do not read an answer without it, a lease of nothing. What else Vault has there (`wrap_info`,
//! `warnings` and `auth`, each null where it says nothing) such clients take for null where it is absent.

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
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u32,
    data: T,
}

impl<T> Answer<T> {
    pub(super) fn new(RequestId(request_id): RequestId, data: T) -> Self {
        let (lease_id, renewable, lease_duration) = NO_LEASE;
        Self { request_id, lease_id, renewable, lease_duration, data }
    }
}

/// What the writer should know.
#[derive(Serialize, ToSchema)]
pub(super) struct Warnings {
    /// The id under which the server's log has this request.
    request_id: String,
    /// Always empty: nothing here is leased.
    lease_id: &'static str,
    /// Always false.
    renewable: bool,
    /// Always 0.
    lease_duration: u32,
    /// What was stored and does not have the effect that it seems to have.
    warnings: Vec<String>,
}

impl Warnings {
    pub(super) fn new(RequestId(request_id): RequestId, warnings: Vec<String>) -> Self {
        let (lease_id, renewable, lease_duration) = NO_LEASE;
        let request_id = request_id.to_string();
        Self { request_id, lease_id, renewable, lease_duration, warnings }
    }
}

/// A token that was given, or prolonged.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    /// The id under which the server's log has this request.
    request_id: String,
    /// Always empty: what is said of the token stands in `auth`.
    lease_id: &'static str,
    /// Always false.
    renewable: bool,
    /// Always 0.
    lease_duration: u32,
    auth: TokenAuth,
}

impl TokenAnswer {
    pub(super) fn new(RequestId(request_id): RequestId, auth: TokenAuth) -> Self {
        let (lease_id, renewable, lease_duration) = NO_LEASE;
        let request_id = request_id.to_string();
        Self { request_id, lease_id, renewable, lease_duration, auth }
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
            /// Always empty: nothing here is leased.
            lease_id: String,
            /// Always false.
            renewable: bool,
            /// Always 0.
            lease_duration: u32,
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

/// What Vault says of a lease where there is none: its id, whether it can be renewed, and its seconds.
const NO_LEASE: (&str, bool, u32) = ("", false, 0);
