//! The form of Vault's answers.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::{LookupSelfData, TokenAuth},
    system::{Mount, UiMounts},
};
use crate::api::envelope::RequestId;

/// Answers that have what was asked for in `data`. Each is a type of its own, since the document names them.
macro_rules! data_answers {
    ($($(#[$doc:meta])* $name:ident: $data:ty;)+) => {$(
        $(#[$doc])*
        #[derive(Serialize, ToSchema)]
        pub(super) struct $name {
            /// The id under which the server's log has this request.
            request_id: String,
            lease_id: &'static str,
            renewable: bool,
            lease_duration: u64,
            data: $data,
            wrap_info: Option<BTreeMap<String, String>>,
            warnings: Option<Vec<String>>,
            auth: Option<BTreeMap<String, String>>,
        }

        impl $name {
            pub(super) fn new(RequestId(request_id): RequestId, data: $data) -> Self {
                Self {
                    request_id,
                    lease_id: "",
                    renewable: false,
                    lease_duration: 0,
                    data,
                    wrap_info: None,
                    warnings: None,
                    auth: None,
                }
            }
        }
    )+};
}

data_answers! {
    /// What is known of the caller.
    LookupSelfAnswer: LookupSelfData;
    /// A mount.
    MountAnswer: Mount;
    /// All mounts.
    MountsAnswer: BTreeMap<&'static str, Mount>;
    /// The mounts that a user interface shows.
    UiMountsAnswer: UiMounts;
}

/// A token that was given, or prolonged.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    /// The id under which the server's log has this request.
    request_id: String,
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u64,
    data: Option<BTreeMap<String, String>>,
    wrap_info: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
    auth: TokenAuth,
}

impl TokenAnswer {
    pub(super) fn new(RequestId(request_id): RequestId, auth: TokenAuth) -> Self {
        Self {
            request_id,
            lease_id: "",
            renewable: false,
            lease_duration: 0,
            data: None,
            wrap_info: None,
            warnings: None,
            auth,
        }
    }
}
