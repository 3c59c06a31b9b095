//! The certificate's credential is checked; no route is reached without.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ApiState, error::ApiError};
use crate::domain::{ConnectionInfo, Error, RequestTrail};

/// Finds the principal of a request and hands it on to the extractors, and to the trail.
pub(super) async fn authenticate(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(connection) = request.extensions().get::<ConnectionInfo>() else {
        let error = Error::Internal("the server gave no connection info".into());
        return ApiError::from(error).into_response();
    };
    match state.authentication.authenticate(connection).await {
        Ok(authenticated) => {
            if let Some(trail) = request.extensions().get::<Arc<RequestTrail>>() {
                trail.note_principal(Arc::clone(&authenticated.principal));
            }
            request.extensions_mut().insert(authenticated);
            next.run(request).await
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}
