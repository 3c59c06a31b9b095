//! The OKMS REST dialect: one file per resource.
//!
//! The router below is the table of contents. It also is where the OpenAPI document comes from, so a
//! route cannot be missing in it.

mod answers;
mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod requests;
mod schemas;
mod secrets;
mod versions;

use axum::routing::get;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiState, mount::Mount};

/// The routes of v2, below the address of a domain.
pub(super) fn router(domain: &str) -> OpenApiRouter<ApiState> {
    Mount::new(domain)
        .routes(routes!(secrets::list, secrets::create))
        .routes(routes!(secrets::read, secrets::update, secrets::delete))
        .routes(routes!(versions::list, versions::create, versions::create_by_put))
        .routes(routes!(versions::read, versions::set_state))
        .routes(routes!(config::read, config::update))
        // The guide writes the address of the list with a slash at its end.
        .route("/secret/", get(secrets::list).post(secrets::create))
        .into_router()
}

/// Where a domain is at a regional address.
pub(super) const DOMAIN: &str = "/api/{okmsId}/v2";
/// Where it is at the central address.
pub(super) const CENTRAL_DOMAIN: &str = "/v2/okms/resource/{okmsId}";
