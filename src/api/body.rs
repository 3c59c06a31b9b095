//! Bodies: JSON in, JSON out, wiped behind us.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;
use zeroize::Zeroize;

use super::{
    ApiLimits, ApiState, authentication::authenticate_now, error::ApiError, extract::caller_again,
    rates::TooMany,
};
use crate::{
    domain::{
        ClientMemory, ConnectionInfo, Error, Held, IdempotencyKey, SecretData, json::Json,
        malformed_idempotency_key,
    },
    service::{Caller, Once},
};

/// A request body that is JSON and says so, with the caller as of the moment when all of it was there.
///
/// A body may take its time. A credential that was revoked, or a right that was taken away, while it was
/// on its way does not count any more, so there is no other caller that a write could be done for.
pub(super) struct JsonBody {
    pub(super) caller: Caller,
    pub(super) json: Json,
    /// What is counted for it, until the request is done.
    pub(super) held: Option<Held>,
}

impl FromRequest<ApiState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        // A browser sends JSON to another site only after asking it, and is told no: so this is also
        // a guard against changes from other sites.
        if !is_declared_as(request.headers(), &[JSON]) {
            return Err(ApiError::UnsupportedMediaType(
                "the body must be sent with the header Content-Type: application/json",
            ));
        }
        Self::read(request, state).await
    }
}

impl JsonBody {
    /// Reads the body of a request, whatever it says that it is.
    ///
    /// # Errors
    ///
    /// When it is encoded, too large or too slow, when the caller does not count any more, or when it is no JSON.
    pub(super) async fn read(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        // What is compressed would be said to be no JSON, and its sender look for the mistake elsewhere.
        if is_encoded(request.headers()) {
            return Err(ApiError::UnsupportedMediaType(
                "the body must be sent without the header Content-Encoding: it is not decoded",
            ));
        }
        let limits = state.limits;
        let declared = content_length(request.headers()).unwrap_or(0);
        if declared > limits.body_bytes() {
            return Err(ApiError::BodyTooLarge(limits.body_kib));
        }
        let (mut parts, body) = request.into_parts();
        let connection = parts.extensions.get::<ConnectionInfo>();
        let memory = connection.map(|connection| Arc::clone(&connection.memory));
        let read = tokio::time::timeout(limits.body_time, read(body, declared, limits, memory));
        let (bytes, held) = read.await.map_err(|_| ApiError::BodyTimeout)??;
        authenticate_now(state, &mut parts.extensions).await?;
        let caller = caller_again(&mut parts, state).await?;
        if bytes.0.is_empty() {
            return Err(Error::malformed("the body must not be empty").into());
        }
        let caller = match idempotency_key(&parts.headers)? {
            Some(key) => {
                let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
                caller.once(Once::new(key, parts.method.as_str(), target, &bytes.0))
            }
            None => caller,
        };
        let json = Json::parse(&bytes.0);
        let json = json.map_err(|refusal| Error::malformed(format!("the body {refusal}")))?;
        Ok(Self { caller, json, held })
    }
}

/// That a request has no body, with its caller as of the moment when that was sure.
///
/// Who sends one means something by it, and would get something else. It may be announced and hold nothing.
pub(super) struct NoBody {
    pub(super) caller: Caller,
}

impl FromRequest<ApiState> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        // Most often nothing was announced, and nothing has to be waited for.
        if !body.is_end_stream() {
            let limits = state.limits;
            let ended = tokio::time::timeout(limits.body_time, refuse_bytes(body));
            ended.await.map_err(|_| ApiError::BodyTimeout)??;
            authenticate_now(state, &mut parts.extensions).await?;
        }
        Ok(Self { caller: caller_again(&mut parts, state).await? })
    }
}

/// Waits for the end of a body, and refuses its first byte: none is kept.
async fn refuse_bytes(mut body: Body) -> Result<(), ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ended_early())?;
        if frame.into_data().is_ok_and(|data| !data.is_empty()) {
            return Err(Error::malformed("this request takes no body").into());
        }
    }
    Ok(())
}

/// The key of a request that is to be done once.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Two of them are one list to whoever is on the way, which is no key.
    if values.next().is_some() {
        return Err(malformed_idempotency_key());
    }
    let value = value.to_str().map_err(|_| malformed_idempotency_key())?;
    IdempotencyKey::parse(value).map(Some)
}

/// Counts bytes as they come: what was declared is not trusted.
async fn read(
    mut body: Body,
    declared: usize,
    limits: ApiLimits,
    memory: Option<Arc<ClientMemory>>,
) -> Result<(WipingBuffer, Option<Held>), ApiError> {
    let mut held = memory.map(|memory| memory.hold(0));
    let mut bytes = WipingBuffer::with_capacity(declared);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ended_early())?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.0.len() + data.len() > limits.body_bytes() {
            return Err(ApiError::BodyTooLarge(limits.body_kib));
        }
        if !held.as_mut().is_none_or(|held| held.grow(bytes.0.len() + data.len())) {
            return Err(ApiError::TooManyRequests(TooMany::Unfinished));
        }
        bytes.append(&data);
    }
    Ok((bytes, held))
}

fn ended_early() -> Error {
    Error::malformed("the body ended before it was complete")
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a request has one content type, and that is one of these.
pub(super) fn is_declared_as(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    // Two of them are not one: others on the way may have judged by the other.
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_types.iter().any(|accepted| media_type.eq_ignore_ascii_case(accepted))
}

/// Whether a body is something else than what it holds: compressed, for example.
fn is_encoded(headers: &HeaderMap) -> bool {
    let is_none = |coding: &str| {
        let coding = coding.trim();
        coding.is_empty() || coding.eq_ignore_ascii_case("identity")
    };
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    // What cannot be read is no word that is known.
    values.any(|value| !value.to_str().is_ok_and(|value| value.split(',').all(is_none)))
}

/// The content type of JSON.
pub(super) const JSON: &str = "application/json";

/// An answer of 200 with JSON. Some clients need exactly `application/json`, without a charset.
pub(super) struct JsonAnswer<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonAnswer<T> {
    fn into_response(self) -> Response {
        self.kept_with(|| ())
    }
}

impl<T: Serialize> JsonAnswer<T> {
    /// The answer; what `written` gives, once all of it is written, is there until all of it is sent.
    pub(super) fn kept_with<K: Send + 'static>(self, written: impl FnOnce() -> K) -> Response {
        let mut buffer = WipingBuffer::with_capacity(USUAL_ANSWER_BYTES);
        if let Err(error) = serde_json::to_writer(&mut buffer, &self.0) {
            let error = Error::Internal(format!("an answer cannot be written: {error}"));
            return ApiError::from(error).into_response();
        }
        drop(self);
        let kept = Kept { bytes: buffer, _with: written() };
        let mut response = Body::from(Bytes::from_owner(kept)).into_response();
        let headers = response.headers_mut();
        // Once for all that an answer has.
        headers.reserve(USUAL_HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// The bytes of an answer, with what is kept until they are sent.
struct Kept<K> {
    bytes: WipingBuffer,
    _with: K,
}

impl<K> AsRef<[u8]> for Kept<K> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes.0
    }
}

/// Writes data as it was stored, digit by digit.
pub(super) fn raw_json<S: Serializer>(data: &SecretData, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: &RawValue = serde_json::from_str(data.as_str())
        .map_err(|_| S::Error::custom("stored data is not JSON"))?;
    raw.serialize(serializer)
}

/// A buffer that leaves nothing behind when it grows or goes.
struct WipingBuffer(Vec<u8>);

impl WipingBuffer {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    // An answer is written in some hundred pieces.
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        if bytes.len() > self.0.capacity() - self.0.len() {
            self.grow(bytes.len());
        }
        self.0.extend_from_slice(bytes);
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let larger = (self.0.len() + more).max(2 * self.0.capacity());
        let mut larger = Vec::with_capacity(larger);
        larger.extend_from_slice(&self.0);
        self.0.as_mut_slice().zeroize();
        self.0 = larger;
    }
}

impl Drop for WipingBuffer {
    fn drop(&mut self) {
        // A slice is wiped as one piece, a `Vec` byte by byte, at 1 ns each. Nothing was ever written behind its
        // end: it only grows.
        self.0.as_mut_slice().zeroize();
    }
}

impl io::Write for WipingBuffer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Enough for the metadata of a secret and a small version.
const USUAL_ANSWER_BYTES: usize = 1_024;
/// Type, length and date, the id of the request, and what browsers are told.
const USUAL_HEADERS: usize = 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_identity_is_no_encoding() {
        let is_encoded = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for &value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            super::is_encoded(&headers)
        };
        for values in [&[][..], &[""], &["identity"], &["Identity, identity"], &["identity", ""]] {
            assert!(!is_encoded(values), "{values:?}");
        }
        for values in [&["gzip"][..], &["identity, br"], &["identity", "gzip"], &["identityx"]] {
            assert!(is_encoded(values), "{values:?}");
        }
    }

    #[tokio::test]
    async fn what_an_answer_is_kept_with_is_there_until_its_bytes_are_gone() {
        let kept = Arc::new(());
        let with = Arc::clone(&kept);
        let response = JsonAnswer(["a"]).kept_with(|| with);
        let mut body = response.into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert!(body.frame().await.is_none());
        drop(body);
        // The transport has taken the bytes, and sends them in parts.
        let mut bytes = frame.into_data().unwrap();
        let rest = bytes.split_off(1);
        drop(bytes);
        assert_eq!((&rest[..], Arc::strong_count(&kept)), (&br#""a"]"#[..], 2));
        drop(rest);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
