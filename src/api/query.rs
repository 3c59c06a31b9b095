//! Query parameters.

use std::borrow::Cow;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::error::ApiError;
use crate::domain::{Argument, Error, MAX_VERSION, VersionId};

/// `?version=3&includeData=true`: which version is read, and whether its data is.
pub(super) struct ReadQuery {
    pub(super) version: Option<VersionId>,
    pub(super) include_data: bool,
}

/// `?cas=3`: the version that the writer believes to be the current one.
pub(super) struct CasQuery {
    pub(super) cas: Option<u32>,
    /// Parameters that no one reads: a mistyped `cas` must not pass in silence.
    pub(super) warnings: Vec<String>,
}

/// The query of a change that takes no parameters, least of all `cas`.
pub(super) struct NoQuery {
    /// Parameters that no one reads.
    pub(super) warnings: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ReadQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query();
        let version = match single(query, "version")? {
            None => None,
            Some(text) => {
                let number = number(&text).ok_or_else(|| {
                    Error::argument(Argument::Version, "version must be from 1 to 24000")
                })?;
                Some(VersionId::new(number)?)
            }
        };
        let include_data = match single(query, "includeData")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Error::malformed("includeData must be true or false").into()),
        };
        Ok(Self { version, include_data })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CasQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query();
        let cas = match single(query, "cas")? {
            None => None,
            Some(text) => {
                let number = number(&text).filter(|number| *number <= MAX_VERSION);
                Some(number.ok_or_else(|| {
                    Error::argument(Argument::CheckAndSet, "cas must be a number from 0 to 24000")
                })?)
            }
        };
        let unknown = pairs(query).any(|(name, _)| name != "cas");
        let warnings = unknown
            .then(|| "query parameters other than cas were ignored".to_owned())
            .into_iter()
            .collect();
        Ok(Self { cas, warnings })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let unknown = pairs(parts.uri.query()).next().is_some();
        let warning = || "this request takes no query parameters: they were ignored".to_owned();
        Ok(Self { warnings: unknown.then(warning).into_iter().collect() })
    }
}

/// The only value of a parameter; the same parameter twice is refused, since nobody could tell which
/// of them counts.
fn single<'q>(query: Option<&'q str>, name: &str) -> Result<Option<Cow<'q, str>>, Error> {
    let mut values = pairs(query).filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() {
        return Err(Error::malformed(format!("{name} is given twice")));
    }
    Ok(first)
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// A number of the request's head. Digits only: no sign, no blank, nothing that overflows.
pub(super) fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}
