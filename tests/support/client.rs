//! An HTTP client that sends what it is told, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, Version, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

/// A client with or without a certificate.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub version: Version,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The rustls configuration of a client that trusts `ca_pem`, and presents the certificate and key, if
/// they are given.
pub fn tls_config(ca_pem: &str, identity: Option<(&str, &str)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("a CA certificate");
    roots.add(ca).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
            let chain = chain.collect::<Result<_, _>>().expect("a client certificate");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a client key");
            builder.with_client_auth_cert(chain, key).expect("a client identity")
        }
    }
}

/// Sends small requests at once: without that, each of them waits 40 ms for the last one's
/// acknowledgement.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

impl Client {
    /// A client of `base` (scheme, host and port) with a TLS configuration.
    pub fn new(base: &str, tls: ClientConfig) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(connector());
        let http = legacy::Client::builder(TokioExecutor::new()).build(https);
        Self { base: base.to_owned(), http }
    }

    /// One that connects from an address of this machine.
    pub fn from_address(base: &str, tls: ClientConfig, address: [u8; 4]) -> Self {
        let mut connector = connector();
        connector.set_local_address(Some(address.into()));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new()).build(https);
        Self { base: base.to_owned(), http }
    }

    /// The same over HTTP/1.1 alone.
    pub fn http1(base: &str, tls: ClientConfig) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(connector());
        let http = legacy::Client::builder(TokioExecutor::new()).build(https);
        Self { base: base.to_owned(), http }
    }

    /// One that does not send a request again when its connection turns out to be closed.
    pub fn without_retries(base: &str, tls: ClientConfig) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(connector());
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let http = builder.retry_canceled_requests(false).build(https);
        Self { base: base.to_owned(), http }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub async fn put(&self, path: &str, body: impl ToString) -> Answer {
        self.json(Method::PUT, path, body).await
    }

    /// Reads a list by pages.
    pub async fn page(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a body as JSON.
    pub async fn json(&self, method: Method, path: &str, body: impl ToString) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().into()).await
    }

    /// Sends a request and gives the answer, whatever it is.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// Sends a request; the error is that of the connection.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let uri: Uri = format!("{}{path}", self.base).parse().expect("a URI");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = self.http.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        let (version, status) = (parts.version, parts.status.as_u16());
        Ok(Answer { version, status, headers: parts.headers, body })
    }
}

impl Answer {
    /// The body as JSON. Numbers are floats where they are not integers: compare [`Answer::text`] where
    /// digits matter.
    #[track_caller]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Checks that this is a success with a JSON body, and gives it.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK.as_u16(), "{}", self.text());
        assert_eq!(self.header(header::CONTENT_TYPE.as_str()), Some("application/json"));
        self.value()
    }

    /// Checks that this is the error object with that status and code, and gives its first text.
    #[track_caller]
    pub fn error(&self, status: u16, code: i64) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header(header::CONTENT_TYPE.as_str()), Some("application/json"));
        let value = self.value();
        assert_eq!(value["error_code"], code, "{value}");
        assert!(value["error_id"].is_string(), "{value}");
        let request_id = value["request_id"].as_str().expect("a request id");
        assert!(request_id.starts_with("OKMS."), "{value}");
        assert_eq!(self.header("x-request-id"), Some(request_id));
        assert_eq!(value.as_object().expect("an object").len(), 4, "{value}");
        let errors = value["errors"].as_array().expect("errors");
        assert_eq!(errors.len(), 1, "{value}");
        errors[0].as_str().expect("a text").to_owned()
    }

    /// Checks that this is the empty answer of a deletion.
    #[track_caller]
    pub fn gone(&self) {
        assert_eq!(self.status, StatusCode::NO_CONTENT.as_u16(), "{}", self.text());
        assert!(self.body.is_empty(), "{}", self.text());
        assert_eq!(self.header("content-type"), None);
    }

    /// The body without the request id, which no two answers share.
    #[track_caller]
    pub fn text_without_request_id(&self) -> String {
        let id = self.header("x-request-id").expect("a request id");
        self.text().replace(id, "…")
    }
}
