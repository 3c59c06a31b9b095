//! A set of routes below an address.
//!
//! Not by nesting routers: a nested router gives each request a URI without the prefix and notes where it is, in
//! layers of their own around each route (hot reads: 2 µs of CPU an answer).

use axum::routing::MethodRouter;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::ApiState;

/// Routes whose addresses begin alike.
pub(super) struct Mount<'p> {
    prefix: &'p str,
    router: OpenApiRouter<ApiState>,
}

impl<'p> Mount<'p> {
    /// No routes yet, below `prefix`.
    pub(super) fn new(prefix: &'p str) -> Self {
        Self { prefix, router: OpenApiRouter::new() }
    }

    /// Adds documented routes.
    pub(super) fn routes(
        self,
        (schemas, mut paths, methods): UtoipaMethodRouter<ApiState>,
    ) -> Self {
        let below = |(path, item)| (format!("{}{path}", self.prefix), item);
        paths.paths = paths.paths.into_iter().map(below).collect();
        Self { router: self.router.routes((schemas, paths, methods)), ..self }
    }

    /// Adds a route that is documented elsewhere, or not at all.
    pub(super) fn route(self, path: &str, methods: MethodRouter<ApiState>) -> Self {
        let path = format!("{}{path}", self.prefix);
        Self { router: self.router.route(&path, methods), ..self }
    }

    /// All of them.
    pub(super) fn into_router(self) -> OpenApiRouter<ApiState> {
        self.router
    }
}
