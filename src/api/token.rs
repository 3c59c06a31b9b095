//! Tokens in headers: `Authorization: Bearer …`, and `X-Vault-Token: …`, which clients of Vault send.
//!
//! What counts when a request says more than one thing:
//!
//! | the request has | what counts |
//! |---|---|
//! | a token in one of the headers, or the same one in both | the token |
//! | two different tokens, or one of the headers twice | nothing: 401 |
//! | anything in them that is no token, another scheme than Bearer | nothing: 401 |
//! | a token that does not count, with or without a certificate | nothing: 401 |
//! | a token and a certificate of the same domain that both count | the token alone says what is allowed |
//! | a token and a certificate that does not count, or of another domain | nothing: 401 |
//! | a token that is bound to a certificate, without that very one | nothing: 401 |
//! | neither header, or an empty one, and a certificate | the certificate |
//!
//! A caller who sends a token means it: if it fell back on the certificate, a revoked token would seem to
//! work, with other rights. An empty header says nothing, so it is as good as none: whoever sends it could
//! leave it away, and gets no right by it. `Bearer` without a token does say something, and is refused.
//!
//! At one address tokens are not looked at: where a certificate asks for one, which is what a client does
//! whose token has ended.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header, request::Parts},
};

use super::error::ApiError;
use crate::{
    domain::Error,
    service::{Presented, PresentedToken},
};

/// The address at which a certificate asks for a token.
pub(super) const LOGIN: &str = "/api/{okmsId}/v1/auth/cert/login";
/// Where the addresses begin at which a caller asks about its own token.
pub(super) const OF_TOKENS: &str = "/api/{okmsId}/v1/auth/token/";

/// The token of a request, if it has one, to be given back to who sent it.
pub(super) struct OwnToken(pub(super) Option<Arc<PresentedToken>>);

impl<S: Send + Sync> FromRequestParts<S> for OwnToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Presented>() {
            Some(Presented::Token(token)) => Ok(Self(Some(Arc::clone(token)))),
            Some(_) => Ok(Self(None)),
            None => Err(Error::Internal("the headers were not looked at".into()).into()),
        }
    }
}

/// What stands where tokens are, whatever it is: one where both headers say the same. Enough to tell one caller
/// from another, before it is known whether it is one.
pub(super) fn written(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.as_bytes();
        let scheme = value.iter().take_while(|byte| **byte != b' ').count();
        value.get(scheme..).unwrap_or_default().trim_ascii()
    });
    let vault = headers.get(X_VAULT_TOKEN).map(|value| value.as_bytes().trim_ascii());
    let tokens = [bearer, vault.filter(|token| Some(*token) != bearer)];
    // An empty header says nothing: all who send one would count as one caller.
    tokens.into_iter().flatten().filter(|token| !token.is_empty())
}

/// Takes the token of a request out of its headers.
pub(super) fn take(headers: &mut HeaderMap) -> Presented {
    let presented = read(headers).unwrap_or_else(Presented::Unreadable);
    headers.remove(header::AUTHORIZATION);
    headers.remove(X_VAULT_TOKEN);
    presented
}

fn read(headers: &HeaderMap) -> Result<Presented, &'static str> {
    let bearer = match only(headers, &header::AUTHORIZATION)? {
        None => None,
        Some(value) => {
            let (scheme, token) = value.split_once(' ').ok_or(NO_BEARER)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(NO_BEARER);
            }
            Some(token.trim_matches(' '))
        }
    };
    let vault = only(headers, &X_VAULT_TOKEN)?;
    let text = match (bearer, vault) {
        (None, None) => return Ok(Presented::Nothing),
        (Some(one), Some(other)) if one != other => return Err("two different tokens"),
        (Some(text), _) | (None, Some(text)) => text,
    };
    let token = PresentedToken::parse(text).ok_or("what should be a token is none")?;
    Ok(Presented::Token(Arc::new(token)))
}

/// The one value of a header that is not empty.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("a header that holds a token is there twice");
    }
    let value = value.to_str().map_err(|_| "a header that holds a token is no ASCII text")?;
    Ok(Some(value.trim_matches(' ')).filter(|value| !value.is_empty()))
}

const NO_BEARER: &str = "the Authorization header holds no bearer token";
const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_tells_callers_apart_unless_it_is_empty() {
        let found = |pairs: &[(&HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            written(&headers).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (bearer, vault) = (&header::AUTHORIZATION, &X_VAULT_TOKEN);
        assert!(found(&[]).is_empty());
        assert!(found(&[(bearer, "Bearer "), (vault, " ")]).is_empty());
        assert_eq!(found(&[(bearer, "Bearer a"), (vault, "a")]), [b"a"]);
        assert_eq!(found(&[(bearer, "Bearer a"), (vault, "b")]), [b"a", b"b"]);
    }
}
