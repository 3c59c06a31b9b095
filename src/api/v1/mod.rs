//! What clients of HashiCorp Vault and of OpenBao ask beside secrets.
//!
//! The router below is the table of contents; it also is where the OpenAPI document comes from. Clients
//! write PUT where others write POST, so each write is reached by both. Bodies are not read: nothing that a
//! client may write there would change what is done.

mod auth;
mod envelope;
mod system;

use axum::routing::{get, put};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::ApiState;

/// The routes of v1, below the address of a domain.
pub(super) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
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
        // The other method of each write.
        .route("/auth/token/renew-self", put(auth::renew_self))
        .route("/auth/token/revoke-self", put(auth::revoke_self))
        .route("/auth/cert/login", put(auth::login))
        // Clients ask for the mount of a path.
        .route("/sys/internal/ui/mounts/{mount}/{*rest}", get(system::read_ui_mount))
        .route("/sys/internal/ui/mounts/{mount}/", get(system::read_ui_mount))
        .route("/sys/mounts/{mount}/", get(system::read_mount))
}
