//! The certificate's credential, or the token, is checked; no route is reached without.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request},
    http::Extensions,
};

use super::{ApiState, error::ApiError, token};
use crate::{
    domain::{ConnectionInfo, Error, RequestTrail},
    service::Presented,
};

/// Finds the principal of a request and hands it on to the extractors, and to the trail.
///
/// Tokens are taken out of the headers here, so that nothing behind this can log or forward them. They go
/// on as part of this one request: the next one on the same connection is asked for its own.
pub(super) async fn authenticate(state: &ApiState, request: &mut Request) -> Result<(), ApiError> {
    let mut presented = token::take(request.headers_mut());
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| route.as_str() == token::LOGIN) {
        presented = Presented::Nothing;
    }
    let asks_about_token = !matches!(presented, Presented::Nothing)
        && route.is_some_and(|route| route.as_str().starts_with(token::OF_TOKENS));
    request.extensions_mut().insert(presented);
    authenticate_now(state, request.extensions_mut()).await.map_err(|error| match error {
        // Clients of Vault ask so whether their token still counts, and take any other status for a failure.
        ApiError::Domain(Error::Unauthenticated(why)) if asks_about_token => {
            ApiError::TokenRefused(why)
        }
        ApiError::Domain(Error::TokensOff) if asks_about_token => ApiError::NoTokens,
        error => error,
    })
}

/// Finds the principal of a request as of now. Asked before anything is read of a body, so that a
/// stranger's is not, and once more when all of it is there: what happened in between counts.
pub(super) async fn authenticate_now(
    state: &ApiState,
    extensions: &mut Extensions,
) -> Result<(), ApiError> {
    let connection = extensions.get::<ConnectionInfo>();
    let connection =
        connection.ok_or_else(|| Error::Internal("the server gave no connection info".into()))?;
    let presented = extensions.get::<Presented>();
    let presented =
        presented.ok_or_else(|| Error::Internal("the headers were not looked at".into()))?;
    let trail = extensions.get::<Arc<RequestTrail>>();
    let trail = trail.ok_or_else(|| Error::Internal("the request has no trail".into()))?;
    let authenticated = state.authentication.authenticate(connection, presented, trail).await?;
    trail.note_principal(Arc::clone(&authenticated.principal));
    extensions.insert(authenticated);
    Ok(())
}
