//! Pages: headers in, header out.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};

use super::{body::JsonAnswer, error::ApiError, query::number};
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

/// A page with the header that leads to the next one, if there is one.
pub(super) fn page_answer<T: serde::Serialize>(items: Vec<T>, next: Option<&str>) -> Response {
    let mut response = JsonAnswer(items).into_response();
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

/// The API's own default and minimum.
const DEFAULT_SIZE: u32 = 100;
const MIN_SIZE: u32 = 10;
/// The API says 100; the official command line lets its users ask for 500 and passes that on.
const MAX_SIZE: u32 = 500;
