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

/// `?version=3&depth=2` of the KV2 API: the version that is read, and how deep its keys are shown. 0 is the
/// same as nothing.
pub(super) struct KvReadQuery {
    pub(super) version: Option<u32>,
    pub(super) depth: Option<usize>,
}

impl<S: Send + Sync> FromRequestParts<S> for KvReadQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query();
        let of = |name: &str, argument: Option<Argument>| {
            let Some(text) = single(query, name)? else { return Ok(None) };
            let refused = format!("{name} must be a number from 0 on");
            let number = number(&text).ok_or(match argument {
                Some(argument) => Error::argument(argument, refused),
                None => Error::malformed(refused),
            })?;
            Ok::<_, ApiError>(Some(number).filter(|number| *number > 0))
        };
        let version = of("version", Some(Argument::Version))?;
        Ok(Self { version, depth: of("depth", None)?.map(|depth| depth as usize) })
    }
}

/// `?list=true` of the KV2 API: what stands below a path is asked for, and not what stands at it.
pub(super) fn asks_for_list(query: Option<&str>) -> Result<bool, Error> {
    match single(query, "list")?.as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(Error::malformed("list must be true or false")),
    }
}

/// Whether a parameter is there.
pub(super) fn has(query: Option<&str>, name: &str) -> bool {
    pairs(query).any(|(key, _)| key == name)
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
