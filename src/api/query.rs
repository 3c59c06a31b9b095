//! Query parameters.

use std::{borrow::Cow, collections::BTreeSet};

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

/// That there are no parameters, where a secret goes with all its versions: one would have been to spare some of
/// them, and an answer without a body can warn of nothing.
pub(super) struct EmptyQuery;

/// The query of a change that takes no parameters, least of all `cas`.
pub(super) struct NoQuery {
    /// Parameters that no one reads.
    pub(super) warnings: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ReadQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query();
        refuse_misspelt(query, &["version", "includeData"])?;
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

impl ReadQuery {
    /// Refuses another version than the one that the path names: nobody could tell which of them counts.
    pub(super) fn only(&self, version: VersionId) -> Result<(), Error> {
        match self.version {
            Some(other) if other != version => {
                Err(Error::malformed("the path names another version than the query"))
            }
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CasQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query();
        refuse_misspelt(query, &["cas"])?;
        let cas = match single(query, "cas")? {
            None => None,
            Some(text) => {
                let number = number(&text).filter(|number| *number <= MAX_VERSION);
                Some(number.ok_or_else(not_a_cas)?)
            }
        };
        Ok(Self { cas, warnings: ignored_beside_cas(query).into_iter().collect() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EmptyQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if pairs(parts.uri.query()).next().is_some() {
            return Err(Error::malformed(
                "this request takes no query parameters: it would delete the secret with all its \
                 versions",
            )
            .into());
        }
        Ok(Self)
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

/// Not the error of a `cas` that does not match: to read again and to try again does not help.
fn not_a_cas() -> Error {
    Error::malformed("cas must be a number from 0 to 24000")
}

/// Refuses a name that is none of these and reads like one of them: its sender means that one, and something else
/// would be done.
fn refuse_misspelt(query: Option<&str>, names: &[&str]) -> Result<(), Error> {
    for (name, _) in pairs(query) {
        if let Some(right) = names.iter().find(|right| name != **right && is_like(&name, right)) {
            let text = format!("a query parameter is misspelt: it is written {right}");
            return Err(Error::malformed(text));
        }
    }
    Ok(())
}

/// Whether two names differ at most in letter case, underscores, hyphens and brackets.
fn is_like(one: &str, other: &str) -> bool {
    letters(one).eq(letters(other))
}

fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !b"_-[]".contains(byte)).map(|byte| byte.to_ascii_lowercase())
}

/// Says which parameters beside `cas` nobody reads. Those whose names look like names are named: any other text may
/// be anything.
fn ignored_beside_cas(query: Option<&str>) -> Option<String> {
    let names = pairs(query).map(|(name, _)| name).filter(|name| name != "cas");
    let names: BTreeSet<_> = names.collect();
    if names.is_empty() {
        return None;
    }
    let mut text = "query parameters other than cas were ignored".to_owned();
    let plain = names.iter().filter(|name| is_plain(name)).take(MAX_NAMED);
    let plain: Vec<&str> = plain.map(|name| &**name).collect();
    if !plain.is_empty() {
        text = format!("{text}: {}", plain.join(", "));
        if plain.len() < names.len() {
            text.push_str(" and others");
        }
    }
    Some(text)
}

fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(is_plain)
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

/// Parameters that a warning names: enough to find a mistake, too few to make an answer larger than its request.
const MAX_NAMED: usize = 8;
/// Letters of a name that a warning repeats; those of the API have at most 11.
const MAX_NAME_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_reads_like_a_known_one_is_refused_with_the_right_one() {
        let names = ["version", "includeData"];
        for (query, right) in [
            ("Version=1", "version"),
            ("VERSION=1&version=1", "version"),
            ("version[]=1", "version"),
            ("version%5B%5D=1", "version"),
            ("_version=1", "version"),
            ("include_data=true", "includeData"),
            ("a=1&includedata", "includeData"),
            ("INCLUDE_DATA[]=true", "includeData"),
        ] {
            let refused = refuse_misspelt(Some(query), &names).unwrap_err();
            let Error::Malformed(text) = refused else { panic!("{query}") };
            assert!(text.ends_with(right), "{query}: {text}");
        }
        for query in ["", "version=1&includeData=true", "versions=1", "include.data=1", "_=1"] {
            assert_eq!(refuse_misspelt(Some(query), &names), Ok(()), "{query}");
        }
        assert_eq!(refuse_misspelt(None, &names), Ok(()));
    }

    #[test]
    fn what_is_ignored_is_named_where_it_is_a_name() {
        let text = "query parameters other than cas were ignored";
        let long = "x".repeat(33);
        for (query, rest) in [
            ("b=CANARY&a-1.x=1&cas=1&b=2", ": a-1.x, b"),
            ("b=1&CANARY%20CANARY=1", ": b and others"),
            ("CANARY%0A=1", ""),
            ("=CANARY", ""),
            (&long[..], ""),
        ] {
            assert_eq!(ignored_beside_cas(Some(query)), Some(format!("{text}{rest}")), "{query}");
        }
        assert_eq!(ignored_beside_cas(Some("cas=1")), None);
        assert_eq!(ignored_beside_cas(None), None);
        let many: String = (0..20).map(|number| format!("x{number}&")).collect();
        let text = ignored_beside_cas(Some(&many)).unwrap();
        assert!(text.ends_with(" and others") && text.matches('x').count() == MAX_NAMED, "{text}");
    }
}
