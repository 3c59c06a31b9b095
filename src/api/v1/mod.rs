//! The KV2 dialect: what clients of HashiCorp Vault and of OpenBao speak, on the same secrets as v2; and what
//! they ask beside secrets.
//!
//! The router below is the table of contents; it also is where the OpenAPI document comes from. Clients write
//! PUT where others write POST, so each write is reached by both; LIST becomes a GET before routing (see
//! [`target`](super::target)). Of `auth` and `system`, bodies are not read: nothing that a client may write
//! there would change what is done.

mod answers;
mod auth;
mod config;
mod data;
mod envelope;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keys;
mod metadata;
mod requests;
mod schemas;
mod system;
mod versions;

use axum::{
    extract::{MatchedPath, Request},
    routing::{any, get, post, put},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiState, mount::Mount};
use crate::domain::Error;

/// The routes of v1, below the address of a domain.
pub(super) fn router() -> OpenApiRouter<ApiState> {
    Mount::new(DOMAIN)
        .routes(routes!(config::read, config::update))
        .routes(routes!(data::read, data::write, data::patch, data::delete))
        .routes(routes!(data::read_keys))
        .routes(routes!(versions::delete))
        .routes(routes!(versions::undelete))
        .routes(routes!(versions::destroy))
        .routes(routes!(metadata::list))
        .routes(routes!(metadata::read, metadata::write, metadata::patch, metadata::delete))
        .routes(routes!(keys::list))
        // The other method of each write.
        .route("/secret/config", put(config::update))
        .route("/secret/data/{path}", put(data::write))
        .route("/secret/delete/{path}", put(versions::delete))
        .route("/secret/undelete/{path}", put(versions::undelete))
        .route("/secret/destroy/{path}", post(versions::destroy))
        .route("/secret/metadata/{path}", put(metadata::write))
        // The root list with a slash at its end.
        .route("/secret/metadata/", get(metadata::list))
        .route("/servicekey", post(keys::refuse).put(keys::refuse))
        .route("/servicekey/", get(keys::list).post(keys::refuse).put(keys::refuse))
        .route("/servicekey/{*path}", any(keys::refuse))
        .route("/random/{*path}", any(keys::refuse))
        .routes(routes!(auth::lookup_self))
        .routes(routes!(auth::renew_self))
        .routes(routes!(auth::revoke_self))
        .routes(routes!(auth::login))
        .routes(routes!(system::list_ui_mounts))
        .routes(routes!(system::read_ui_mount))
        .routes(routes!(system::list_mounts))
        .routes(routes!(system::read_mount))
        .routes(routes!(system::health))
        .routes(routes!(system::seal_status))
        .routes(routes!(system::init_status))
        .routes(routes!(system::leader))
        .route("/auth/token/renew-self", put(auth::renew_self))
        .route("/auth/token/revoke-self", put(auth::revoke_self))
        .route("/auth/cert/login", put(auth::login))
        // Clients ask for the mount of a path.
        .route("/sys/internal/ui/mounts/{mount}/{*rest}", get(system::read_ui_mount))
        .route("/sys/internal/ui/mounts/{mount}/", get(system::read_ui_mount))
        .route("/sys/mounts/{mount}/", get(system::read_mount))
        .into_router()
}

/// Where a domain is.
pub(super) const DOMAIN: &str = "/api/{okmsId}/v1";

/// Refuses a request for a wrapped answer: there is no such thing here, and whoever asks for it does not expect
/// the secret itself.
pub(super) fn refuse_wrapping(request: &Request) -> Result<(), Error> {
    let is_ours = |route: &MatchedPath| route.as_str().starts_with(DOMAIN);
    if request.headers().contains_key("x-vault-wrap-ttl")
        && request.extensions().get::<MatchedPath>().is_some_and(is_ours)
    {
        return Err(Error::malformed("X-Vault-Wrap-TTL: answers are not wrapped by this server"));
    }
    Ok(())
}
