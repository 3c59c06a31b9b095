//! Around every request: its id, the access log, its audit record, panics, security headers, the form of
//! errors.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    drain::KeptBody,
    error::{ApiError, error_response},
    operations::Operations,
};
use crate::{
    audit::{AuditLog, NotRecorded, RequestRecord, known_method},
    domain::{ConnectionInfo, Error, RequestTrail},
};

/// Puts the envelope around all routes. Requests of the public documentation are not recorded: they
/// reach nothing.
pub(super) fn wrap(routes: Router, recorder: Option<Recorder>) -> Router {
    routes
        .layer(middleware::from_fn(move |request, next| envelope(recorder.clone(), request, next)))
}

/// The id of a request, for answers that tell it.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let id = parts.extensions.get::<Self>().cloned();
        id.ok_or_else(|| Error::Internal("the request has no id".into()).into())
    }
}

/// Records requests.
#[derive(Clone)]
pub(super) struct Recorder {
    log: AuditLog,
    operations: Operations,
}

impl Recorder {
    pub(super) fn new(log: AuditLog) -> Self {
        Self { log, operations: Operations::of_document() }
    }
}

async fn envelope(recorder: Option<Recorder>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Random: it must not tell how many came before.
    let request_id = format!("OKMS.{}", Uuid::new_v4());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer_address);
    let trail = Arc::new(RequestTrail::default());
    request.extensions_mut().insert(Arc::clone(&trail));
    request.extensions_mut().insert(RequestId(request_id.clone()));

    // The path itself is neither logged nor recorded: one that is no secret's may be a secret that
    // somebody pasted into the wrong place. The trail has the URN of what it named.
    let method = known_method(request.method().as_str());
    let mut unrecorded = recorder.map(|recorder| {
        let route = route.as_ref().map(MatchedPath::as_str);
        let operation = route.and_then(|route| recorder.operations.id(request.method(), route));
        let operation = operation.map(str::to_owned);
        let (id, route) = (request_id.clone(), route.map(str::to_owned));
        let record = RequestRecord::new(id, peer, request.method().as_str(), route, operation);
        Unrecorded { log: recorder.log, record: Some(record), trail: Arc::clone(&trail) }
    });

    let left = KeptBody::keep(&mut request);
    let mut response = match &mut unrecorded {
        Some(unrecorded) if !unrecorded.log.admits() => {
            // Nothing was done, and nothing can be recorded. The log counts it.
            unrecorded.record = None;
            not_recorded()
        }
        _ => handle(request, next).await,
    };
    let mut error_code = render(&mut response, &request_id);
    if let Some(unrecorded) = unrecorded
        && unrecorded.finish(response.status(), error_code).await.is_err()
    {
        response = not_recorded();
        error_code = render(&mut response, &request_id);
    }
    // What was done is on record before its caller can keep it waiting.
    if let Some(left) = left {
        left.drain().await;
    }
    add_headers(&mut response, &request_id);
    let noted = trail.read();
    let credential_id = noted.principal.as_ref().and_then(|principal| principal.credential_id);
    let is_refused = noted.principal.is_none();
    let token_id = noted.principal.as_ref().and_then(|principal| principal.token_id);
    tracing::info!(target: "okmsd::access", {
        request.id = request_id,
        peer.address = peer.map(tracing::field::display),
        credential.id = credential_id.map(tracing::field::display),
        refused_credential.id = noted.refused_credential.filter(|_| is_refused).map(tracing::field::display),
        token.id = token_id.map(tracing::field::display),
        http.method = method,
        http.route = route.as_ref().map(MatchedPath::as_str),
        resource.urn = noted.resource_urn,
        http.status = response.status().as_u16(),
        error.code = error_code,
        duration_ms = started.elapsed().as_secs_f64() * 1_000.0,
    }, "request");
    response
}

async fn handle(request: Request, next: Next) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIME, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => ApiError::Panicked.into_response(),
        Err(_) => {
            let error = Error::Unavailable("the request took too long".into());
            ApiError::from(error).into_response()
        }
    }
}

fn not_recorded() -> Response {
    ApiError::from(Error::Unavailable("the audit log cannot be written".into())).into_response()
}

/// A request that is not recorded yet. Dropped so, its caller has gone away, and that is recorded.
struct Unrecorded {
    log: AuditLog,
    record: Option<RequestRecord>,
    trail: Arc<RequestTrail>,
}

impl Unrecorded {
    /// Records how the request was answered.
    async fn finish(
        mut self,
        status: StatusCode,
        error_code: Option<i32>,
    ) -> Result<(), NotRecorded> {
        let Some(mut record) = self.record.take() else { return Ok(()) };
        record.note(self.trail.read());
        record.answered(status.as_u16(), error_code);
        self.log.record(record).await
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.note(self.trail.read());
            self.log.record_abandoned(record);
        }
    }
}

/// Gives an error its form, and tells its code.
fn render(response: &mut Response, request_id: &str) -> Option<i32> {
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None => ApiError::of_router(response.status())?,
    };
    let rendering = error.render();
    let error_code = rendering.error_code;
    log_failure(&error, request_id);
    let allow = response.headers_mut().remove(header::ALLOW);
    *response = error_response(rendering, request_id.to_owned(), error.data());
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    match response.status() {
        // The other way is a certificate, which HTTP has no scheme for.
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::TOO_MANY_REQUESTS => {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        _ => {}
    }
    if matches!(error, ApiError::BodyTooLarge | ApiError::BodyTimeout) {
        // The rest of the body is not wanted; over HTTP/2 the header has no meaning.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Some(error_code)
}

/// Texts that are for the log alone, once. The caller's own mistakes are in the access log.
fn log_failure(error: &ApiError, request_id: &str) {
    match error {
        ApiError::Domain(Error::Internal(text) | Error::Unavailable(text)) => {
            tracing::error!(request.id = request_id, error = text, "request failed");
        }
        ApiError::Domain(Error::Unauthenticated(why)) | ApiError::TokenRefused(why) => {
            tracing::info!(request.id = request_id, error = why, "credential refused");
        }
        ApiError::Panicked => tracing::error!(request.id = request_id, "request panicked"),
        _ => {}
    }
}

fn add_headers(response: &mut Response, request_id: &str) {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        // A route may be stricter or, for static files of the Swagger UI, say something else.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// How long a request may take in all: longer than body and database together may, shorter than the
/// time after which a silent connection is closed.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Seconds after which to try again: those who wait now have had their answers by then.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers hold secrets: no cache keeps them, no browser guesses their type, shows them inside another
/// page or lets another origin read them.
///
/// No Strict-Transport-Security: it counts for a host with all its ports, and there is no plain HTTP
/// here to be kept from. On localhost it would break the other servers of a developer.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::{audit, clock::SystemClock};

    async fn panics() -> &'static str {
        panic!("canary")
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_answered_in_time() {
        let routes = wrap(Router::new().route("/", get(std::future::pending::<()>)), None);
        let started = tokio::time::Instant::now();
        let response =
            routes.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(started.elapsed(), REQUEST_TIME);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_before_its_answer_leaves_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let options = audit::Options::new(folder.path().join("audit"));
        let log = AuditLog::start(&options, Arc::new(SystemClock)).unwrap();
        let recorder = Recorder::new(log.clone());
        let routes = Router::new().route("/x", get(std::future::pending::<()>));
        let request = Request::get("/x?secret").body(Body::empty()).unwrap();
        let answer = wrap(routes, Some(recorder)).oneshot(request);
        assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err());
        log.close().await;
        let file = folder.path().join("audit/server-1/000001/000001.jsonl");
        let text = std::fs::read_to_string(file).unwrap();
        let records: Vec<_> = text.lines().filter(|line| line.contains("OKMS.")).collect();
        assert_eq!(records.len(), 1, "{text}");
        assert!(records[0].ends_with(r#""method":"GET","route":"/x","abandoned":true}"#), "{text}");
    }

    #[tokio::test]
    async fn a_panic_is_a_500_in_the_form_of_the_api_and_the_next_request_is_served() {
        let routes = Router::new().route("/panics", get(panics)).route("/works", get(|| async {}));
        let routes = wrap(routes, None);
        let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request("/panics")).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error_code"], 50_401_281);
        assert_eq!(body["errors"], serde_json::json!(["internal error"]));
        assert!(body["request_id"].as_str().unwrap().starts_with("OKMS."));
        let response = routes.oneshot(request("/works")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}
