//! Pages: headers in, header out.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    body::JsonAnswer,
    error::ApiError,
    query::{has, number},
};
use crate::domain::Error;

/// Which page is asked for. The cursor is opaque here too: the service makes and checks it.
pub(super) struct PageRequest {
    pub(super) size: u32,
    pub(super) cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let size = match single(&parts.headers, &X_PAGINATION_SIZE)? {
            None => DEFAULT_SIZE,
            Some(text) => {
                let size = number(text).filter(|size| (MIN_SIZE..=MAX_SIZE).contains(size));
                size.ok_or_else(|| {
                    Error::malformed("X-Pagination-Size must be a number from 10 to 500")
                })?
            }
        };
        // An empty cursor is what a client sends that copies an absent one.
        let cursor = single(&parts.headers, &X_PAGINATION_CURSOR)?.filter(|text| !text.is_empty());
        Ok(Self { size, cursor: cursor.map(str::to_owned) })
    }
}

/// Which page is asked for, if one is. Who asks for a part, or for all that stands deeper, in the words of OpenBao
/// does not expect the list that there is, and is refused.
pub(super) struct OptionalPage(pub(super) Option<PageRequest>);

impl<S: Send + Sync> FromRequestParts<S> for OptionalPage {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if let Some(name) = OF_OPENBAO.iter().find(|name| has(parts.uri.query(), name)) {
            let text = format!("{name}: no such list is served; X-Pagination-Size asks for pages");
            return Err(Error::malformed(text).into());
        }
        let asks = [X_PAGINATION_SIZE, X_PAGINATION_CURSOR];
        if !asks.iter().any(|name| parts.headers.contains_key(name)) {
            return Ok(Self(None));
        }
        PageRequest::from_request_parts(parts, state).await.map(|page| Self(Some(page)))
    }
}

/// A page with the header that leads to the next one, if there is one.
pub(super) fn page_answer<T: serde::Serialize>(items: Vec<T>, next: Option<&str>) -> Response {
    with_next(JsonAnswer(items).into_response(), next)
}

/// An answer with the header that leads to the next page, if there is one.
pub(super) fn with_next(mut response: Response, next: Option<&str>) -> Response {
    // The alphabet of base64url is fit for a header.
    if let Some(cursor) = next.and_then(|cursor| HeaderValue::from_str(cursor).ok()) {
        response.headers_mut().insert(X_PAGINATION_CURSOR_NEXT, cursor);
    }
    response
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::malformed(format!("the header {name} is given twice")));
    }
    let text = value.to_str();
    text.map(Some).map_err(|_| Error::malformed(format!("the header {name} cannot be read")))
}

const X_PAGINATION_SIZE: HeaderName = HeaderName::from_static("x-pagination-size");
const X_PAGINATION_CURSOR: HeaderName = HeaderName::from_static("x-pagination-cursor");
const X_PAGINATION_CURSOR_NEXT: HeaderName = HeaderName::from_static("x-pagination-cursor-next");

/// Parameters of OpenBao's lists, which neither the API nor Vault has.
const OF_OPENBAO: [&str; 3] = ["after", "limit", "scan"];

/// The API's own default and minimum.
const DEFAULT_SIZE: u32 = 100;
const MIN_SIZE: u32 = 10;
/// The API says 100; the official command line lets its users ask for 500 and passes that on.
const MAX_SIZE: u32 = 500;
