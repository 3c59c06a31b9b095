//! The OpenAPI document and both Swagger UIs.
//!
//! The document is made of the routes themselves. It is shown twice: on a listener of its own, to
//! anyone, where no request can be sent; and on the API listener, behind the client certificate, where
//! requests really run.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa::{
    IntoParams, OpenApi,
    openapi::{
        OpenApi as Document, RefOr, ServerBuilder,
        path::ParameterBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::Config;

use super::{
    ApiState,
    body::{JSON, JsonAnswer},
    envelope::Envelope,
    error,
    rates::{Limited, Rates},
    v1, v2,
};
use crate::service::Authenticated;

/// The document without any address: the one that is kept in `openapi/`.
pub fn openapi() -> Document {
    document(DESCRIPTION.to_owned())
}

/// All that the public documentation listener serves.
///
/// Its page cannot send requests: it is told not to offer any, and the browser is told to let it
/// connect to nothing but the document. `api_url` is where clients reach the API and the authenticated
/// page, such as `https://okms.example:8443`. Anyone may ask, and each request leaves a line in the log: the rates are
/// those of the API.
pub fn docs_router(api_url: &str, rates: Arc<Rates>) -> Limited<Router> {
    let mut document = document(format!(
        "{DESCRIPTION}\n\nThis page is documentation only. To run requests, import your client \
         certificate (PKCS#12) into the browser and open the [authenticated Swagger UI]({api_url}/swagger/)."
    ));
    document.servers = Some(vec![ServerBuilder::new().url(api_url).build()]);
    let config = ui_config().supported_submit_methods(NO_METHODS);
    let routes = ui_router(document, config).fallback(error::route_not_found);
    Limited::new(rates, Envelope::default().around(routes))
}

/// The Swagger UI of the API listener, still without its guard.
pub(super) fn authenticated_router() -> Router {
    let mut document = document(format!(
        "{DESCRIPTION}\n\nRequests from this page run for real, as the owner of the certificate that \
         the browser presents."
    ));
    // The page's own origin, under whichever name the browser reached it: to no other could it send.
    document.servers = Some(vec![ServerBuilder::new().url("/").build()]);
    ui_router(document, ui_config().try_it_out_enabled(true))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "okmsd Secret Manager"),
    tags(
        (name = "Secret API", description = "Secrets and their versions (REST v2)"),
        (name = "KV2 API", description = "The same secrets, as clients of HashiCorp Vault's KV2 engine see them (v1)"),
        (name = "Vault API", description = "What clients of HashiCorp Vault ask beside secrets (v1)"),
        (name = "Key management", description = "Not a part of this server")
    ),
    security(("clientCertificate" = []), ("personalAccessToken" = []), ("vaultToken" = []))
)]
struct Skeleton;

fn document(description: String) -> Document {
    let api: OpenApiRouter<ApiState> = OpenApiRouter::with_openapi(Skeleton::openapi())
        .merge(v2::router(v2::DOMAIN))
        .merge(v1::router());
    let (_, mut document) = api.split_for_parts();
    document.info.description = Some(description);
    document.info.license = None;
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::MutualTls {
        description: Some("An access certificate of the OKMS domain".to_owned()),
        extensions: None,
        deprecated: None,
    };
    components.add_security_scheme("clientCertificate", scheme);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of the OKMS domain"))
        .build();
    components.add_security_scheme("personalAccessToken", SecurityScheme::Http(bearer));
    let header =
        ApiKeyValue::with_description("X-Vault-Token", "The same, as clients of Vault send it");
    let header = SecurityScheme::ApiKey(ApiKey::Header(header));
    components.add_security_scheme("vaultToken", header);
    document
}

fn ui_config() -> Config<'static> {
    // No validator: it would send the document's address to another host.
    Config::from("openapi.json").validator_url("none").use_base_layout().show_extensions(true)
}

/// What the routes of a Swagger UI work with. Anyone may ask for it, so that a copy for each request would be a way
/// to fill the memory: all answers are of the same bytes but for the few that are made for their caller.
#[derive(Clone)]
struct Ui {
    config: Arc<Config<'static>>,
    document: Arc<Document>,
    /// The document as JSON; nothing where it cannot be written, which each answer then tries itself.
    written: Option<Bytes>,
}

fn ui_router(document: Document, config: Config<'static>) -> Router {
    let written = serde_json::to_vec(&document).map(Bytes::from).ok();
    let ui = Ui { config: Arc::new(config), document: Arc::new(document), written };
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/swagger/") }))
        .route("/swagger", get(|| async { Redirect::temporary("/swagger/") }))
        .route("/swagger/", get(index))
        .route("/swagger/openapi.json", get(openapi_json))
        .route("/swagger/{file}", get(file))
        .with_state(ui)
}

/// The document. Who presents a certificate finds the id of its own domain filled in.
async fn openapi_json(State(ui): State<Ui>, caller: Option<Extension<Authenticated>>) -> Response {
    if let (None, Some(written)) = (&caller, ui.written) {
        return ([(header::CONTENT_TYPE, JSON)], written).into_response();
    }
    let mut document = Document::clone(&ui.document);
    if let Some(Extension(caller)) = caller {
        let okms_id = serde_json::Value::String(caller.principal.okms_id.to_string());
        let paths = document.paths.paths.values_mut();
        let operations = paths.flat_map(|path| {
            let methods =
                [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete];
            methods.into_iter().flatten()
        });
        let parameters = operations.flat_map(|operation| operation.parameters.iter_mut().flatten());
        for parameter in parameters {
            if let RefOr::T(parameter) = parameter
                && parameter.name == "okmsId"
            {
                let filled = ParameterBuilder::from(parameter.clone());
                *parameter = filled.example(Some(okms_id.clone())).build();
            }
        }
    }
    JsonAnswer(document).into_response()
}

async fn index(State(ui): State<Ui>) -> Response {
    serve_file(&ui, "index.html")
}

async fn file(State(ui): State<Ui>, Path(name): Path<String>) -> Response {
    serve_file(&ui, &name)
}

fn serve_file(ui: &Ui, name: &str) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::clone(&ui.config)) else {
        return error::ApiError::RouteNotFound.into_response();
    };
    let content_type = HeaderValue::from_str(&file.content_type);
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(UI_SECURITY_POLICY)),
        (X_ROBOTS_TAG, HeaderValue::from_static("noindex")),
    ];
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    (headers, bytes).into_response()
}

/// The id of the OKMS domain.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct OkmsIdParam {
    /// The OKMS domain.
    #[param(rename = "okmsId", format = "uuid")]
    okms_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct PathParam {
    /// The path of the secret, with its slashes raw or percent-encoded.
    #[param(min_length = 1, pattern = "^[a-zA-Z0-9_.:/=@%-]+$", example = "prod/database/MySQL")]
    path: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct VersionParam {
    /// The number of the version.
    #[param(minimum = 1, maximum = 24000, example = 1)]
    version: u32,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct MountParam {
    /// The name of the mount: there is `secret` alone.
    #[param(example = "secret")]
    mount: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct ReadParams {
    /// The number of the version; the current one by default.
    #[param(minimum = 1, maximum = 24000, nullable = false)]
    version: Option<u32>,
    /// Whether data comes along.
    #[param(default = false, nullable = false)]
    include_data: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct DataParam {
    /// Whether data comes along.
    #[param(default = false, nullable = false)]
    include_data: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct CasParam {
    /// Check-and-set: the write is done only if this is the number of the current version.
    #[param(minimum = 0, maximum = 24000, nullable = false)]
    cas: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct OnceParam {
    /// A key of the client's own, in double quotes: for a day, the same request with the same key is not done again
    /// but gets the first answer again, with the header `Idempotent-Replayed: true`.
    #[param(
        rename = "Idempotency-Key",
        pattern = "^\"([ !#-\\[\\]-~]|\\\\[\"\\\\]){1,255}\"$",
        example = "\"8e03978e-40d5-43e6-bc93-6894a57f9324\"",
        nullable = false
    )]
    idempotency_key: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct KvVersionParam {
    /// The number of the version; the current one by default, or where it is 0.
    #[param(minimum = 0, nullable = false)]
    version: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct DepthParam {
    /// How many levels of keys are shown; all of them by default, or where it is 0.
    #[param(minimum = 0, nullable = false)]
    depth: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct ListParam {
    /// Whether what stands directly below the path is asked for.
    #[param(default = false, nullable = false)]
    list: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(super) struct PageParams {
    /// How many items a page has at the most.
    #[param(
        rename = "X-Pagination-Size",
        minimum = 10,
        maximum = 500,
        default = 100,
        nullable = false
    )]
    size: Option<u32>,
    /// `X-Pagination-Cursor-Next` of the page before.
    #[param(rename = "X-Pagination-Cursor", nullable = false)]
    cursor: Option<String>,
}

const DESCRIPTION: &str = "A Secret Manager that speaks the OVHcloud OKMS Secret Manager API. A secret \
    is a path and a list of versions; the data of a version is a JSON object. Callers identify \
    themselves by an access certificate of their OKMS domain (mutual TLS), or by a token of it.";

const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// Nothing but files of this very server; no script in the page itself.
const UI_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Which requests the public page may run.
const NO_METHODS: [&str; 0] = [];

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn answers_to_anyone_are_of_the_same_bytes() {
        let routes = ui_router(openapi(), ui_config());
        let answer = async |path: &str| {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            let answer = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        for path in ["/swagger/openapi.json", "/swagger/swagger-ui-bundle.js", "/swagger/"] {
            let (one, another) = (answer(path).await, answer(path).await);
            assert!(one.len() > 200);
            assert_eq!(one.as_ptr(), another.as_ptr(), "{path}");
        }
    }
}
