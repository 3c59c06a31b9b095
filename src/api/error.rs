//! Errors in the API's own form.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::rates::TooMany;
use crate::domain::{Argument, Error, IdempotencyError};

/// Why a request is answered with an error.
#[derive(Debug, Clone)]
pub enum ApiError {
    /// What the use case refused with.
    Domain(Error),
    /// The same, with what clients of KV2 read beside an error.
    WithData(Error, Box<serde_json::Value>),
    /// The token that a request asks about does not count. The text is for the log.
    TokenRefused(&'static str),
    /// The request asks for a token, or about one, and the operator turned tokens off.
    NoTokens,
    /// A path of the key management API.
    KeyManagement,
    /// No such route.
    RouteNotFound,
    /// The route has no such method; the `Allow` header names those it has.
    MethodNotAllowed,
    /// The body is not declared as JSON, or is encoded. The text is for the caller.
    UnsupportedMediaType(&'static str),
    /// The body is longer than so many KiB.
    BodyTooLarge(u32),
    /// The body did not arrive in time.
    BodyTimeout,
    /// More requests than the rate of their caller allows.
    TooManyRequests(TooMany),
    /// A mount of another name than `secret`.
    OtherMount,
    /// Another web site asks for a change.
    OtherSite,
    /// A handler panicked.
    Panicked,
}

/// Body of every 4xx and 5xx answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorResponse {
    /// A short name of the kind of error, stable across releases.
    #[schema(example = "secret_not_found")]
    pub(super) error_id: &'static str,
    /// The code of the error: component, category and number in one.
    #[schema(example = 17_125_377)]
    pub(super) error_code: i32,
    /// What went wrong; names fields and rules, never values.
    #[schema(example = json!(["the secret does not exist"]))]
    pub(super) errors: Vec<String>,
    /// The id under which the server's log has this request.
    #[schema(example = "OKMS.2b6f5a9e-52a4-4f0e-8d2c-6b1f3d0a9c11")]
    pub(super) request_id: String,
    /// What else may be told; KV2 has it where a version is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    data: Option<serde_json::Value>,
}

/// The error answers that every operation can give.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) enum ErrorResponses {
    /// The request cannot be read, or an argument breaks a rule.
    #[response(status = 400)]
    BadRequest(ErrorResponse),
    /// No client certificate and no token, or what there is does not count (any more).
    #[response(status = 401)]
    Unauthorized(ErrorResponse),
    /// The caller may not do this.
    #[response(status = 403)]
    Forbidden(ErrorResponse),
    /// The domain, the secret or the version does not exist.
    #[response(status = 404)]
    NotFound(ErrorResponse),
    /// Too many requests.
    #[response(status = 429)]
    TooManyRequests(ErrorResponse),
    /// A fault of the server.
    #[response(status = 500)]
    Internal(ErrorResponse),
    /// Storage cannot be reached now; trying again later helps.
    #[response(status = 503)]
    Unavailable(ErrorResponse),
}

/// The same but for 404, of operations that have more to say there.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) enum OtherErrorResponses {
    /// The request cannot be read, or an argument breaks a rule.
    #[response(status = 400)]
    BadRequest(ErrorResponse),
    /// No client certificate, or its credential is revoked or expired.
    #[response(status = 401)]
    Unauthorized(ErrorResponse),
    /// The caller may not do this.
    #[response(status = 403)]
    Forbidden(ErrorResponse),
    /// Too many requests.
    #[response(status = 429)]
    TooManyRequests(ErrorResponse),
    /// A fault of the server.
    #[response(status = 500)]
    Internal(ErrorResponse),
    /// Storage cannot be reached now; trying again later helps.
    #[response(status = 503)]
    Unavailable(ErrorResponse),
}

/// The error answers that every operation with a body can give besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) enum BodyErrorResponses {
    /// The body did not arrive in time.
    #[response(status = 408)]
    Timeout(ErrorResponse),
    /// The body is larger than the server takes, which is 512 KiB where nothing else is set.
    #[response(status = 413)]
    TooLarge(ErrorResponse),
    /// The body is not sent as JSON, or with a `Content-Encoding`.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorResponse),
}

/// The error answers that every operation that makes a version can give besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) enum OnceErrorResponses {
    /// A request with this Idempotency-Key is under way.
    #[response(status = 409)]
    Conflict(ErrorResponse),
    /// The Idempotency-Key was used for another request.
    #[response(status = 422)]
    OtherRequest(ErrorResponse),
}

/// What an error is on the wire.
pub(super) struct Rendering {
    pub(super) status: StatusCode,
    pub(super) error_id: &'static str,
    pub(super) error_code: i32,
    pub(super) text: String,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error for `envelope`, which knows the request id and writes the body.
    fn into_response(self) -> Response {
        let mut response = self.render().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl ApiError {
    /// The error that a response stands for which the router made by itself.
    pub(super) fn of_router(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::METHOD_NOT_ALLOWED => Some(Self::MethodNotAllowed),
            StatusCode::NOT_FOUND => Some(Self::RouteNotFound),
            StatusCode::BAD_REQUEST => {
                Some(Self::Domain(Error::malformed("the request path cannot be read")))
            }
            status if status.is_client_error() || status.is_server_error() => {
                Some(Self::Domain(Error::Internal(format!("the router answered {status}"))))
            }
            _ => None,
        }
    }

    /// What is told beside the error.
    pub(super) fn data(&self) -> Option<serde_json::Value> {
        match self {
            Self::WithData(_, data) => Some(serde_json::Value::clone(data)),
            _ => None,
        }
    }

    pub(super) fn render(&self) -> Rendering {
        let (status, error_id, error_code, text) = match self {
            Self::Domain(error) | Self::WithData(error, _) => return render_domain(error),
            Self::TokenRefused(_) => (
                403,
                "token_refused",
                REST_AUTH | AUTHORIZATION | 1,
                "permission denied: the token does not count",
            ),
            Self::NoTokens => (
                403,
                "no_tokens",
                REST_AUTH | AUTHORIZATION | 2,
                "permission denied: this server takes and gives no tokens",
            ),
            Self::KeyManagement => (
                404,
                "key_management",
                REST | NOT_FOUND | 2,
                "this server manages secrets only: it has no keys and no other part of the key \
                 management API",
            ),
            Self::RouteNotFound => {
                (404, "route_not_found", REST | NOT_FOUND | 1, "there is nothing at this path")
            }
            Self::MethodNotAllowed => (
                405,
                "method_not_allowed",
                REST | ARGUMENT | 2,
                "this path does not have that method; the Allow header names those it has",
            ),
            Self::UnsupportedMediaType(text) => {
                (415, "unsupported_media_type", REST | ARGUMENT | 3, *text)
            }
            Self::BodyTooLarge(kib) => {
                let text = format!("the body must have at most {kib} KiB");
                return rendering(413, "body_too_large", REST | ARGUMENT | 4, &text);
            }
            Self::BodyTimeout => {
                (408, "body_timeout", REST | ARGUMENT | 5, "the body did not arrive in time")
            }
            Self::TooManyRequests(whose) => (
                429,
                "too_many_requests",
                REST | TOO_MANY_REQUESTS | 1,
                match whose {
                    TooMany::OfAddress => "too many requests of this address, try again",
                    TooMany::OfCredential => "too many requests of this credential, try again",
                    TooMany::Unfinished => {
                        "too many unfinished requests of this address: read their answers, and try again"
                    }
                },
            ),
            Self::OtherMount => (
                403,
                "other_mount",
                REST | AUTHORIZATION | 2,
                "there is no mount but secret/, or the caller may not know of it",
            ),
            Self::OtherSite => (
                403,
                "other_site",
                REST | AUTHORIZATION | 1,
                "a change that another web site asks for is refused",
            ),
            Self::Panicked => (500, "internal", REST | INTERNAL | 1, "internal error"),
        };
        rendering(status, error_id, error_code, text)
    }
}

fn render_domain(error: &Error) -> Rendering {
    let (status, error_id, error_code, text) = match error {
        Error::Malformed(text) => (400, "malformed_request", REST | ARGUMENT | 1, text.as_str()),
        Error::Argument(argument, text) => {
            let (error_id, number) = argument_id(*argument);
            (400, error_id, SECRET_MANAGER | BAD_ARGUMENT | number, text.as_str())
        }
        Error::Unauthenticated(_) => (
            401,
            "unauthenticated",
            REST_AUTH | AUTHENTICATION | 3,
            "a valid client certificate or token of this OKMS domain is required",
        ),
        Error::TokensOff => (
            401,
            "tokens_off",
            REST_AUTH | AUTHENTICATION | 4,
            "this server takes no tokens: send a client certificate, and no token",
        ),
        Error::TooManyRequests => (
            429,
            "too_many_requests",
            REST | TOO_MANY_REQUESTS | 1,
            "too many requests of this address, try again",
        ),
        Error::Forbidden(action) => {
            let text = format!("not allowed: {action} is needed");
            return rendering(403, "forbidden", IAM | AUTHORIZATION | 1, &text);
        }
        Error::DomainNotFound => {
            (404, "domain_not_found", DOMAIN | NOT_FOUND | 1, "the OKMS domain does not exist")
        }
        Error::SecretNotFound => {
            (404, "secret_not_found", SECRET_MANAGER | NOT_FOUND | 1, "the secret does not exist")
        }
        Error::VersionNotFound => (
            404,
            "version_not_found",
            SECRET_MANAGER | NOT_FOUND | 2,
            "the secret does not have that version",
        ),
        Error::VersionClosed(_) => (
            404,
            "version_closed",
            SECRET_MANAGER | NOT_FOUND | 3,
            "the version is deactivated or deleted",
        ),
        Error::SecretExists => {
            (409, "secret_exists", REST | CONFLICT | 1, "there is a secret at this path already")
        }
        Error::Idempotency(IdempotencyError::InProgress) => (
            409,
            "idempotency_key_in_progress",
            REST | CONFLICT | 2,
            "a request with this Idempotency-Key is under way: try again once it has ended",
        ),
        Error::Idempotency(IdempotencyError::OtherRequest) => (
            422,
            "idempotency_key_reused",
            REST | ARGUMENT | 6,
            "this Idempotency-Key was used for another request",
        ),
        Error::Idempotency(IdempotencyError::TooMany { .. }) => (
            429,
            "too_many_idempotency_keys",
            REST | TOO_MANY_REQUESTS | 2,
            "100000 Idempotency-Keys of this caller are kept: each for a day",
        ),
        Error::Unavailable(_) => {
            (503, "unavailable", REST | UNAVAILABLE | 2, "the service is unavailable, try again")
        }
        Error::Internal(_) => (500, "internal", REST | INTERNAL | 1, "internal error"),
    };
    rendering(status, error_id, error_code, text)
}

fn rendering(status: u16, error_id: &'static str, error_code: i32, text: &str) -> Rendering {
    // Every status above is a valid one; 500 is what an invalid one would mean.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Rendering { status, error_id, error_code, text: text.to_owned() }
}

/// Names and numbers of argument errors. They are a part of the interface: numbers are not used
/// again.
const fn argument_id(argument: Argument) -> (&'static str, i32) {
    match argument {
        Argument::FieldRequired => ("field_required", 1),
        Argument::SecretPath => ("invalid_path", 2),
        Argument::DataNotAnObject => ("invalid_data", 3),
        Argument::DataTooLarge => ("data_too_large", 4),
        Argument::CustomMetadata => ("invalid_custom_metadata", 5),
        Argument::DeactivateVersionAfter => ("invalid_deactivate_version_after", 6),
        Argument::MaxVersions => ("invalid_max_versions", 7),
        Argument::Version => ("invalid_version", 8),
        Argument::VersionsExhausted => ("versions_exhausted", 9),
        Argument::CheckAndSet => ("cas_mismatch", 10),
        Argument::State => ("invalid_state", 11),
        Argument::SecretsExhausted => ("secrets_exhausted", 12),
    }
}

/// Answers a path that no route has.
pub(super) async fn route_not_found() -> ApiError {
    ApiError::RouteNotFound
}

/// The body of an error answer, as a response.
pub(super) fn error_response(
    rendering: Rendering,
    request_id: String,
    data: Option<serde_json::Value>,
) -> Response {
    let Rendering { status, error_id, error_code, text } = rendering;
    let body = ErrorResponse { error_id, error_code, errors: vec![text], request_id, data };
    // Strings, an integer and JSON always serialize.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (status, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

// An error code is component (8 bits), part of it (8), category (4) and number (12).
const REST: i32 = 3 << 24 | 1 << 16;
const REST_AUTH: i32 = 3 << 24 | 2 << 16;
const IAM: i32 = 1 << 24 | 2 << 16;
const DOMAIN: i32 = 1 << 24 | 3 << 16;
const SECRET_MANAGER: i32 = 1 << 24 | 5 << 16;
const INTERNAL: i32 = 1 << 12;
const ARGUMENT: i32 = 2 << 12;
const AUTHENTICATION: i32 = 3 << 12;
const AUTHORIZATION: i32 = 4 << 12;
const NOT_FOUND: i32 = 5 << 12;
const UNAVAILABLE: i32 = 7 << 12;
const BAD_ARGUMENT: i32 = 8 << 12;
const TOO_MANY_REQUESTS: i32 = 9 << 12;
const CONFLICT: i32 = 10 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_service() {
        let code = |error: Error| {
            let rendering = ApiError::from(error).render();
            (rendering.status.as_u16(), rendering.error_code)
        };
        assert_eq!(code(Error::SecretNotFound), (404, 17_125_377));
        assert_eq!(code(Error::VersionNotFound), (404, 17_125_378));
        assert_eq!(code(Error::malformed("")), (400, 50_405_377));
        assert_eq!(code(Error::argument(Argument::CheckAndSet, "")), (400, 17_137_664 + 10));
        assert_eq!(code(Error::SecretExists), (409, 50_438_145));
        assert_eq!(code(Error::Unauthenticated("")), (401, 50_475_011));
        assert_eq!(code(Error::Forbidden("x")), (403, 16_924_673));
        assert_eq!(code(Error::DomainNotFound), (404, 16_994_305));
        assert_eq!(code(Error::TooManyRequests), (429, 50_434_049));
        assert_eq!(code(Error::Internal(String::new())), (500, 50_401_281));
        assert_eq!(code(Error::Unavailable(String::new())), (503, 50_425_858));
    }

    #[test]
    fn texts_for_the_log_never_reach_an_answer() {
        for error in [
            Error::Internal("canary".into()),
            Error::Unavailable("canary".into()),
            Error::Unauthenticated("canary"),
        ] {
            assert!(!ApiError::from(error).render().text.contains("canary"));
        }
    }
}
