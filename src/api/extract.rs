//! Path parameters as words of `domain`.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use super::{error::ApiError, query::number};
use crate::{
    domain::{Argument, Error, NotedResource, OkmsId, RequestTrail, SecretPath, VersionId},
    service::{Authenticated, Caller},
};

/// The caller, in the domain that the path names.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let okms_id = okms_id(parts, state).await?;
        // Before it is let in: whoever tries another domain than its own leaves a record of which one.
        // What stands below it, if anything, is noted by whoever reads that.
        note_domain(parts, okms_id);
        enter(parts, okms_id)
    }
}

/// The caller once more, as of now. What the path names was noted when it was read, and stays noted.
pub(super) async fn caller_again<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Caller, ApiError> {
    let okms_id = okms_id(parts, state).await?;
    enter(parts, okms_id)
}

fn enter(parts: &Parts, okms_id: OkmsId) -> Result<Caller, ApiError> {
    let authenticated = parts.extensions.get::<Authenticated>().cloned();
    let authenticated = authenticated.ok_or(Error::Unauthenticated("no principal"))?;
    let trail = parts.extensions.get::<Arc<RequestTrail>>().cloned();
    let trail = trail.ok_or_else(|| Error::Internal("the request has no trail".into()))?;
    Ok(Caller::enter(authenticated, okms_id, trail)?)
}

/// That the path names the caller's own domain, which is found out before a body is read. The caller of a
/// request with a body comes with the [body](super::body::JsonBody).
pub(super) struct OwnDomain;

impl<S: Send + Sync> FromRequestParts<S> for OwnDomain {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Caller::from_request_parts(parts, state).await.map(|_| Self)
    }
}

/// The secret path. The router has decoded it, once.
impl<S: Send + Sync> FromRequestParts<S> for SecretPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Self::parse(&path_param(parts, state, "path").await?)?;
        // That the domain is the caller's own is found out by whoever takes the caller, first.
        if let Some(trail) = parts.extensions.get::<Arc<RequestTrail>>() {
            trail.note_path(&path);
        }
        Ok(path)
    }
}

/// The version number.
impl<S: Send + Sync> FromRequestParts<S> for VersionId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = path_param(parts, state, "version").await?;
        let number = number(&text).ok_or_else(|| {
            Error::argument(
                Argument::Version,
                "version must be a number from 1 to 24000 (to name a secret whose path has a \
                 segment 'version' before its last one, encode its slashes as %2F)",
            )
        })?;
        Ok(Self::new(number)?)
    }
}

/// Notes the domain that the path of the request names, for the record of one that gets no further. Where it
/// does, the use case notes what it decides about.
fn note_domain(parts: &Parts, okms_id: OkmsId) {
    let authenticated = parts.extensions.get::<Authenticated>();
    let trail = parts.extensions.get::<Arc<RequestTrail>>();
    if let (Some(Authenticated { principal, .. }), Some(trail)) = (authenticated, trail) {
        let principal = Arc::clone(principal);
        trail.note_resource(NotedResource { principal, okms_id, path: None });
    }
}

async fn okms_id<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<OkmsId, ApiError> {
    let text = path_param(parts, state, "okmsId").await?;
    Ok(text.parse().map_err(|_| Error::malformed("okmsId must be a UUID"))?)
}

pub(super) async fn path_param<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, ApiError> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Error::malformed("the request path is not UTF-8 once it is decoded"))?;
    let found = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| Error::Internal(format!("the route has no parameter {name}")).into())
}
