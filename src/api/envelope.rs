//! Around every request: its id, the access log, its audit record, panics, security headers, the form of
//! errors.

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use tower::{Service, layer::layer_fn};
use uuid::Uuid;

use super::{
    ApiState,
    authentication::authenticate,
    browser,
    counts::RequestCounts,
    drain::KeptBody,
    error::{ApiError, error_response},
    operations::OperationId,
    spans::{FinishedRequest, SpanQueue},
    v1,
};
use crate::{
    audit::{AuditLog, NotRecorded, RequestRecord, known_method},
    domain::{
        ConnectionInfo, CredentialId, Error, IdempotencyError, Noted, NotedResource, RequestTrail,
        TokenId, Trace, TraceId,
    },
};

/// What goes around all routes of a listener.
#[derive(Default)]
pub(super) struct Envelope {
    /// Where requests are recorded. Those of the public documentation are not: they reach nothing.
    recorder: Option<Recorder>,
    /// What callers are authenticated by, where not anyone may ask.
    state: Option<ApiState>,
}

struct Recorder {
    log: AuditLog,
    requests: Arc<RequestCounts>,
    spans: Option<SpanQueue>,
}

impl Envelope {
    /// That of the API.
    pub(super) fn of_api(state: ApiState) -> Self {
        let recorder = Recorder {
            log: state.audit.clone(),
            requests: Arc::clone(&state.requests),
            spans: state.spans.clone(),
        };
        Self { recorder: Some(recorder), state: Some(state) }
    }

    /// Puts it around `routes`. It is one layer, and none of axum's own making: each of those costs every
    /// request some allocations more.
    pub(super) fn around(self, routes: Router) -> Router {
        let envelope = Arc::new(self);
        routes.layer(layer_fn(move |routes| Enveloped { envelope: Arc::clone(&envelope), routes }))
    }
}

/// Routes in an envelope.
#[derive(Clone)]
struct Enveloped<S> {
    envelope: Arc<Envelope>,
    routes: S,
}

impl<S> Service<Request> for Enveloped<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that said that it is ready.
        let next = self.routes.clone();
        let next = std::mem::replace(&mut self.routes, next);
        let envelope = Arc::clone(&self.envelope);
        Box::pin(async move { Ok(envelope.pass(request, next).await) })
    }
}

/// The id of a request, for answers that tell it.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let id = parts.extensions.get::<Self>().cloned();
        id.ok_or_else(|| Error::Internal("the request has no id".into()).into())
    }
}

impl Envelope {
    async fn pass(
        &self,
        mut request: Request,
        next: impl Service<Request, Response = Response, Error = Infallible>,
    ) -> Response {
        let started = Instant::now();
        // Random: it must not tell how many came before.
        let random = Uuid::new_v4();
        let request_id = request_id_of(random);
        let traceparent = request.headers().get_all(TRACEPARENT).iter();
        let trace = Trace::of_request(traceparent.map(HeaderValue::as_bytes), random.into_bytes());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer_address);
        let trail = Arc::new(RequestTrail::default());
        request.extensions_mut().insert(Arc::clone(&trail));
        request.extensions_mut().insert(RequestId(Arc::clone(&request_id)));

        // The path itself is neither logged nor recorded: one that is no secret's may be a secret that
        // somebody pasted into the wrong place. The trail has the URN of what it named.
        let method = known_method(request.method().as_str());
        let mut unrecorded = self.recorder.as_ref().map(|recorder| {
            let route = route.as_ref().map(MatchedPath::as_str);
            let operation =
                route.and_then(|route| recorder.requests.operation(request.method(), route));
            let name = operation.and_then(|operation| recorder.requests.name(operation)).cloned();
            let (id, route) = (Arc::clone(&request_id), route.map(Arc::from));
            let record = RequestRecord::new(id, peer, method, route, name);
            Unrecorded { recorder, operation, record: Some(record), trail: Arc::clone(&trail) }
        });
        let counted =
            unrecorded.as_ref().map(|unrecorded| (unrecorded.recorder, unrecorded.operation));

        let left = KeptBody::keep(&mut request);
        let mut response = match &mut unrecorded {
            Some(unrecorded) if !unrecorded.recorder.log.admits() => {
                // Nothing was done, and nothing can be recorded. The log counts it.
                unrecorded.record = None;
                not_recorded()
            }
            _ => self.handle(request, next).await,
        };
        let mut error_code = render(&mut response, &request_id, &trace);
        let noted = trail.take();
        let is_replay = noted.is_replay;
        let principal = noted.principal.clone();
        let refused_credential = noted.refused_credential.filter(|_| principal.is_none());
        let resource = noted.resource.clone();
        if let Some(unrecorded) = unrecorded
            && unrecorded.finish(noted, response.status(), error_code).await.is_err()
        {
            response = not_recorded();
            error_code = render(&mut response, &request_id, &trace);
        }
        // What was done is on record before its caller can keep it waiting.
        if let Some(left) = left {
            left.drain().await;
        }
        if is_replay && response.status().is_success() {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert(IDEMPOTENT_REPLAYED, yes);
        }
        add_headers(&mut response, &request_id, &trace);
        let (status, time) = (response.status(), started.elapsed());
        if let Some((recorder, operation)) = counted {
            recorder.requests.answered(operation, status, time);
            if let Some(spans) = &recorder.spans {
                let operation = operation.and_then(|id| recorder.requests.name(id)).cloned();
                spans.put(FinishedRequest {
                    trace,
                    request_id: Arc::clone(&request_id),
                    operation,
                    method,
                    status: status.as_u16(),
                    ended: started + time,
                    time,
                });
            }
        }
        let line = AccessLine {
            request_id: &request_id,
            trace,
            peer,
            credential_id: principal.as_ref().and_then(|principal| principal.credential_id),
            refused_credential,
            token_id: principal.as_ref().and_then(|principal| principal.token_id),
            method,
            route: route.as_ref().map(MatchedPath::as_str),
            resource,
            status: status.as_u16(),
            error_code,
            time,
        };
        let reads = matches!(method, "GET" | "HEAD");
        if reads && status.is_success() && self.recorder.is_some() {
            line.log_as_usual()
        } else {
            line.log()
        }
        response
    }

    async fn handle(
        &self,
        request: Request,
        next: impl Service<Request, Response = Response, Error = Infallible>,
    ) -> Response {
        // It stays where it is: each move is one of some kilobytes.
        let handled = pin!(self.let_in(request, next));
        let handled = AssertUnwindSafe(handled).catch_unwind();
        match tokio::time::timeout(REQUEST_TIME, handled).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => ApiError::Panicked.into_response(),
            Err(_) => {
                let error = Error::Unavailable("the request took too long".into());
                ApiError::from(error).into_response()
            }
        }
    }

    /// Lets a request on to its route, if its caller counts.
    async fn let_in(
        &self,
        mut request: Request,
        mut next: impl Service<Request, Response = Response, Error = Infallible>,
    ) -> Response {
        if let Some(state) = &self.state {
            if browser::is_change_of_another_site(&request) {
                return ApiError::OtherSite.into_response();
            }
            if let Err(refused) = authenticate(state, &mut request).await {
                return refused.into_response();
            }
            if let Err(refused) = v1::refuse_wrapping(&request) {
                return ApiError::from(refused).into_response();
            }
        }
        let Ok(response) = next.call(request).await;
        response
    }
}

/// A line of the access log.
struct AccessLine<'r> {
    request_id: &'r str,
    trace: Trace,
    peer: Option<SocketAddr>,
    credential_id: Option<CredentialId>,
    refused_credential: Option<CredentialId>,
    token_id: Option<TokenId>,
    method: &'static str,
    route: Option<&'r str>,
    resource: Option<NotedResource>,
    status: u16,
    error_code: Option<i32>,
    time: Duration,
}

macro_rules! log {
    ($level:ident, $line:expr) => {{
        let line = $line;
        tracing::$level!(target: "okmsd::access", {
            request.id = line.request_id,
            trace.id = %line.trace.id(),
            peer.address = line.peer.map(tracing::field::display),
            credential.id = line.credential_id.map(tracing::field::display),
            refused_credential.id = line.refused_credential.map(tracing::field::display),
            token.id = line.token_id.map(tracing::field::display),
            http.method = line.method,
            http.route = line.route,
            // Written where the line is.
            resource.urn = line.resource.as_ref().map(NotedResource::urn),
            http.status = line.status,
            error.code = line.error_code,
            duration_ms = line.time.as_secs_f64() * 1_000.0,
        }, "request");
    }};
}

impl AccessLine<'_> {
    fn log(self) {
        log!(info, self);
    }

    /// A read that was answered, as nearly all requests are. The audit log has it; a second line about each
    /// would cost as much time as to open the secret.
    fn log_as_usual(self) {
        log!(debug, self);
    }
}

/// An error that is answered before anything of a request is looked at: it is in no log.
pub(super) fn refusal(error: ApiError) -> Response {
    let random = Uuid::new_v4();
    let request_id = request_id_of(random);
    let trace = Trace::of_request(std::iter::empty(), random.into_bytes());
    let mut response = error.into_response();
    render(&mut response, &request_id, &trace);
    add_headers(&mut response, &request_id, &trace);
    response
}

fn request_id_of(random: Uuid) -> Arc<str> {
    let mut uuid = Uuid::encode_buffer();
    let uuid: &str = random.hyphenated().encode_lower(&mut uuid);
    ["OKMS.", uuid].concat().into()
}

fn not_recorded() -> Response {
    ApiError::from(Error::Unavailable("the audit log cannot be written".into())).into_response()
}

/// A request that is not recorded yet. Dropped so, its caller has gone away, and that is recorded.
struct Unrecorded<'e> {
    recorder: &'e Recorder,
    operation: Option<OperationId>,
    record: Option<RequestRecord>,
    trail: Arc<RequestTrail>,
}

impl Unrecorded<'_> {
    /// Records how the request was answered.
    async fn finish(
        mut self,
        noted: Noted,
        status: StatusCode,
        error_code: Option<i32>,
    ) -> Result<(), NotRecorded> {
        let Some(mut record) = self.record.take() else { return Ok(()) };
        record.note(noted);
        record.answered(status.as_u16(), error_code);
        self.recorder.log.record(record).await
    }
}

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.note(self.trail.take());
            self.recorder.log.record_abandoned(record);
            self.recorder.requests.abandoned(self.operation);
        }
    }
}

/// Gives an error its form, and tells its code.
fn render(response: &mut Response, request_id: &str, trace: &Trace) -> Option<i32> {
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None => ApiError::of_router(response.status())?,
    };
    let rendering = error.render();
    let error_code = rendering.error_code;
    log_failure(&error, request_id, trace.id());
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
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let after = match &error {
                ApiError::Domain(Error::Idempotency(IdempotencyError::TooMany {
                    retry_seconds,
                })) => HeaderValue::from(*retry_seconds),
                _ => RETRY_AFTER,
            };
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        _ => {}
    }
    if matches!(error, ApiError::BodyTooLarge(_) | ApiError::BodyTimeout) {
        // The rest of the body is not wanted; over HTTP/2 the header has no meaning.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Some(error_code)
}

/// Texts that are for the log alone, once. The caller's own mistakes are in the access log.
fn log_failure(error: &ApiError, request_id: &str, trace_id: TraceId) {
    match error {
        ApiError::Domain(Error::Internal(text) | Error::Unavailable(text)) => {
            tracing::error!(request.id = request_id, trace.id = %trace_id, error = text, "request failed");
        }
        ApiError::Domain(Error::Unauthenticated(why)) | ApiError::TokenRefused(why) => {
            tracing::info!(request.id = request_id, trace.id = %trace_id, error = why, "credential refused");
        }
        ApiError::Panicked => {
            tracing::error!(request.id = request_id, trace.id = %trace_id, "request panicked");
        }
        _ => {}
    }
}

fn add_headers(response: &mut Response, request_id: &str, trace: &Trace) {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        // A route may be stricter or, for static files of the Swagger UI, say something else.
        headers.entry(name).or_insert(value);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    // Others learn nothing from it that the request id does not tell: of that, a new trace has its id.
    if trace.parent().is_some()
        && let Ok(trace) = HeaderValue::try_from(trace.to_string())
    {
        headers.insert(TRACERESPONSE, trace);
    }
}

/// How long a request may take in all: longer than body and database together may, shorter than the
/// time after which a silent connection is closed.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Seconds after which to try again: those who wait now have had their answers by then.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Says that an answer is that of an earlier request, as other services with idempotency keys do.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// For callers that trace: which part of their trace the request is here. Of a draft of W3C Trace Context, as no
/// level of it has a header for answers; `traceparent` is defined for requests alone.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Answers hold secrets: no cache keeps them, no browser guesses their type, shows them inside another
/// page or lets another origin read them.
///
/// No Strict-Transport-Security: it counts for a host with all its ports, and there is no plain HTTP
/// here to be kept from. On localhost it would break the other servers of a developer.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
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
        let routes =
            Envelope::default().around(Router::new().route("/", get(std::future::pending::<()>)));
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
        let requests = Arc::new(RequestCounts::new());
        let recorder =
            Some(Recorder { log: log.clone(), requests: Arc::clone(&requests), spans: None });
        let envelope = Envelope { recorder, ..Envelope::default() };
        let routes = Router::new().route("/x", get(std::future::pending::<()>));
        let request = Request::get("/x?secret").body(Body::empty()).unwrap();
        let answer = envelope.around(routes).oneshot(request);
        assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err());
        log.close().await;
        let measured = requests.measured();
        let other = measured.last().unwrap();
        assert_eq!((&*other.operation, &other.statuses[..]), ("other", &[("abandoned", 1)][..]));
        let file = folder.path().join("audit/server-1/000001/000001.jsonl");
        let text = std::fs::read_to_string(file).unwrap();
        let records: Vec<_> = text.lines().filter(|line| line.contains("OKMS.")).collect();
        assert_eq!(records.len(), 1, "{text}");
        assert!(records[0].ends_with(r#""method":"GET","route":"/x","abandoned":true}"#), "{text}");
    }

    #[tokio::test]
    async fn a_panic_is_a_500_in_the_form_of_the_api_and_the_next_request_is_served() {
        let routes = Router::new().route("/panics", get(panics)).route("/works", get(|| async {}));
        let routes = Envelope::default().around(routes);
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
