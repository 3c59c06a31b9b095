//! HTTP only: reading requests, calling one use case, writing answers.
//!
//! What it owns: routes, wire forms, status codes, what browsers may do, the OpenAPI document and
//! both Swagger UIs. What it must not do: decide a rule of secrets, see the store or a key. It meets
//! `server` only in [`ConnectionInfo`](crate::domain::ConnectionInfo), which every request carries.
//!
//! A request passes through these, in order:
//!
//! | file | what happens |
//! |---|---|
//! | `rates` | requests beyond the rate of their caller are refused |
//! | `target` | the raw path is split into secret path and suffix, before anything is decoded |
//! | `envelope` | request id, access log, audit record, panics, security headers, errors in the API's form |
//! | `operations` | the operation that a record names |
//! | `spans` | requests that are over, for traces |
//! | `counts` | requests, counted by operation |
//! | `drain` | what is left of a body is read, so that no answer is lost |
//! | `browser` | changes that another web site asks for are refused |
//! | `authentication` | the certificate's credential, or the token, is checked; no route is reached without |
//! | `token` | tokens in headers |
//! | `extract`, `body`, `fields`, `query`, `paging` | input becomes words of `domain` |
//! | `mount` | what follows is found below the address of a domain |
//! | `v2` | the OKMS REST dialect: one file per resource |
//! | `v1` | the KV2 dialect, on the same use cases |
//! | `limits` | every limit of requests, with unit and reason |
//! | `docs` | the OpenAPI document and the Swagger UIs |

mod authentication;
mod body;
mod browser;
mod counts;
mod docs;
mod drain;
mod envelope;
mod error;
mod extract;
mod fields;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod limits;
mod mount;
mod operations;
mod paging;
mod query;
mod rates;
mod spans;
mod target;
mod token;
mod v1;
mod v2;

use std::{ops::Deref, sync::Arc};

use axum::Router;

pub use self::counts::{RequestCounts, RequestMeasures};
pub use self::docs::{docs_router, openapi};
pub use self::spans::{FinishedRequest, SpanQueue};
use self::{envelope::Envelope, target::Folded};
pub use self::{
    limits::ApiLimits,
    rates::{Limited, Rates, TooMany},
};
use crate::{
    audit::AuditLog,
    service::{Authentication, Secrets, Tokens},
};

/// What handlers work with. Each request clones it: it is one pointer.
#[derive(Clone)]
pub struct ApiState(Arc<Services>);

/// See [`ApiState`].
pub struct Services {
    /// Finds out who calls.
    pub authentication: Authentication,
    /// The use cases of secrets.
    pub secrets: Secrets,
    /// The use cases of tokens.
    pub tokens: Tokens,
    /// Where each request is recorded.
    pub audit: AuditLog,
    /// Where each request is counted.
    pub requests: Arc<RequestCounts>,
    /// The limits of requests.
    pub limits: ApiLimits,
    /// Where each request is put for those who trace, if anybody does.
    pub spans: Option<SpanQueue>,
}

impl ApiState {
    /// Handlers that work with these.
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for ApiState {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}

/// All that the API listener serves.
///
/// Both forms of address, the regional and the central one, lead to the same routes.
pub fn api_router(state: ApiState, rates: Arc<Rates>) -> Limited<Folded<Router>> {
    let api = v2::router(v2::DOMAIN).merge(v2::router(v2::CENTRAL_DOMAIN)).merge(v1::router());
    let (routes, _) = api.split_for_parts();
    let routes = routes
        .with_state(state.clone())
        .merge(docs::authenticated_router())
        .fallback(error::route_not_found);
    Limited::new(rates, Folded::new(Envelope::of_api(state).around(routes)))
}
