//! Pages: headers in, header out.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{body::JsonAnswer, error::ApiError, query::number};
use crate::domain::{Error, SecretPath, VersionId};

/// Which page is asked for.
pub(super) struct PageRequest<Key> {
    pub(super) size: u32,
    pub(super) after: Option<Key>,
}

/// Something a list is ordered by, which a cursor holds.
///
/// A cursor is the key of the last item seen, opaque to clients. It holds nothing that the caller has
/// not been shown, and is checked like any other input.
pub(super) trait CursorKey: Sized + Send {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

impl CursorKey for SecretPath {
    fn write(&self) -> String {
        self.as_str().to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl CursorKey for VersionId {
    fn write(&self) -> String {
        self.get().to_string()
    }

    fn read(text: &str) -> Option<Self> {
        Self::new(number(text)?).ok()
    }
}

impl<S: Send + Sync, Key: CursorKey> FromRequestParts<S> for PageRequest<Key> {
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
        let after = match cursor {
            None => None,
            Some(cursor) => Some(read_cursor(cursor).ok_or_else(|| {
                Error::malformed("X-Pagination-Cursor is not a cursor of this list")
            })?),
        };
        Ok(Self { size, after })
    }
}

/// A page with the header that leads to the next one, if there is one.
pub(super) fn page_answer<T: serde::Serialize, Key: CursorKey>(
    items: Vec<T>,
    next: Option<&Key>,
) -> Response {
    let mut response = JsonAnswer(items).into_response();
    let cursor = next.map(|key| URL_SAFE_NO_PAD.encode(key.write()));
    // The alphabet of base64url is fit for a header.
    if let Some(cursor) = cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
        response.headers_mut().insert(X_PAGINATION_CURSOR_NEXT, cursor);
    }
    response
}

fn read_cursor<Key: CursorKey>(cursor: &str) -> Option<Key> {
    // Padded or not: clients treat the cursor as base64url, and some pad.
    let bytes = URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?;
    Key::read(std::str::from_utf8(&bytes).ok()?)
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
