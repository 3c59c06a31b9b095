//! Requests to another server: one connection, TLS alone, tried again where that helps.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time};
use tokio_rustls::TlsConnector;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::{Failure, output};
use crate::{config::Environment, domain::Trace};

/// A server, and what the caller shows to it.
pub(super) struct Remote {
    host: String,
    port: u16,
    /// What stands in front of every path, without a slash at its end.
    prefix: String,
    connector: TlsConnector,
    headers: HeaderMap,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Whether it ever answered: who never did is not waited for.
    has_answered: bool,
}

/// An answer that is none of the server's own failures.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// May hold a secret.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Whether the request had been sent before: the server may have done then what it refuses now.
    pub(super) is_repeated: bool,
}

/// Why there is no answer.
enum Trouble {
    /// It may help to ask again: at once, or as late as the server says.
    Passing(String, Option<Duration>),
    /// It does not.
    Final(String),
}

/// The files of a TLS client.
#[derive(Debug)]
pub(super) struct TlsPaths<'a> {
    /// The authorities that are trusted; PEM.
    pub(super) ca: &'a Path,
    /// The client's certificate with its key, where it shows one.
    pub(super) identity: Option<(&'a Path, &'a Path)>,
}

impl Remote {
    /// The server at `address`, such as `https://localhost:8443`, for a caller that shows `headers`.
    pub(super) fn new(
        address: &str,
        tls: &TlsPaths<'_>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, Failure> {
        let bad = || {
            Failure::usage(format!(
                "{address} is not the address of a server, such as https://localhost:8443"
            ))
        };
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        if uri.query().is_some() {
            return Err(bad());
        }
        if uri.scheme_str() != Some("https") {
            return Err(Failure::usage(format!(
                "{address} does not begin with https://: secrets travel over TLS alone"
            )));
        }
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(443),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            connector: TlsConnector::from(Arc::new(tls.config()?)),
            headers: headers.into_iter().collect(),
            connection: None,
            has_answered: false,
        })
    }

    /// Shows this with every request from now on.
    pub(super) fn show(&mut self, (name, value): (HeaderName, HeaderValue)) {
        self.headers.insert(name, value);
    }

    /// Asks for what is there.
    pub(super) async fn get(
        &mut self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, Failure> {
        self.send(Method::GET, path, headers, None).await
    }

    /// Sends JSON. What is sent may arrive more than once, so it must be such that this does no harm.
    pub(super) async fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        self.send(method, path, &[], Some(Bytes::from_owner(body))).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let what = format!("{method} {path}");
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let request = self.request(method.clone(), path, headers, body.clone())?;
            let tried = time::timeout(ANSWER_TIME, self.try_send(request)).await;
            let tried = tried.unwrap_or_else(|_| {
                Err(Trouble::Passing(format!("no answer for {} s", ANSWER_TIME.as_secs()), None))
            });
            let (why, wait) = match tried {
                Ok(answer) => return Ok(Answer { is_repeated: attempt > 1, ..answer }),
                Err(Trouble::Passing(why, wait)) if attempt < ATTEMPTS && self.has_answered => {
                    (why, wait)
                }
                Err(Trouble::Passing(why, _) | Trouble::Final(why)) => {
                    return Err(Failure::new(format!("{self}: {what}: {why}")));
                }
            };
            self.connection = None;
            let wait = pause_of(wait, pause);
            output::tell(&format!("{self}: {why}; the next try is in {} s", wait.as_secs_f32()));
            time::sleep(wait).await;
            pause = pause.saturating_mul(2);
        }
        Err(Failure::new(format!("{self}: {what}: no attempt")))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
        *request.method_mut() = method;
        let uri = format!("{}{path}", self.prefix).parse();
        *request.uri_mut() =
            uri.map_err(|error| Failure::because(format!("{path} is no path"), &error))?;
        let all = request.headers_mut();
        all.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        all.extend(headers.iter().cloned());
        let host = HeaderValue::from_str(&format!("{}:{}", self.host, self.port));
        all.insert(
            header::HOST,
            host.map_err(|error| Failure::because("the address is no host", &error))?,
        );
        if body.is_some() {
            all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }

    async fn try_send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        let connection = match self.connection.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let connection = self.connection.insert(connection);
        let passing = |error: hyper::Error| Trouble::Passing(format!("{error}"), None);
        connection.ready().await.map_err(passing)?;
        let response = connection.send_request(request).await.map_err(passing)?;
        self.has_answered = true;
        let (parts, mut body) = response.into_parts();
        // As large as it is said to be, since a buffer that grows leaves copies behind.
        let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse().ok()).unwrap_or(64 * 1024);
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES.min(said)));
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(passing)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                self.connection = None;
                return Err(Trouble::Final("the answer is too large".into()));
            }
            bytes.extend_from_slice(&data);
        }
        let (status, headers) = (parts.status, parts.headers);
        let answer = Answer { status, headers, body: bytes, is_repeated: false };
        match answer.status {
            StatusCode::UNAUTHORIZED => {
                Err(Trouble::Final(format!("the caller is not let in{}", answer.told())))
            }
            // 412 is that of a Vault which has not seen yet what another one of its cluster has.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PRECONDITION_FAILED => {
                Err(Trouble::Passing(answer.status.to_string(), answer.retry_after()))
            }
            status if status.is_redirection() => {
                let place = answer.headers.get(header::LOCATION);
                let place = place.and_then(|place| place.to_str().ok()).unwrap_or("somewhere else");
                Err(Trouble::Final(format!("it points to {place}: give the address of that one")))
            }
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Err(Trouble::Passing(format!("{status}{}", answer.told()), answer.retry_after()))
            }
            _ => Ok(answer),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let passing = |error: &dyn fmt::Display| Trouble::Passing(error.to_string(), None);
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.port)).await.map_err(|error| passing(&error))?;
        // Small requests go at once.
        tcp.set_nodelay(true).map_err(|error| passing(&error))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Trouble::Final(error.to_string()))?;
        let tls = self.connector.connect(name, tcp).await.map_err(|error| passing(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(tls)).await.map_err(|error| passing(&error))?;
        // It ends with the sender, whose next request tells what was wrong.
        tokio::spawn(async move {
            let _told_to_the_sender = connection.await;
        });
        Ok(sender)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl Answer {
    /// What the server says of an error, in brackets: such texts name rules, never values.
    pub(super) fn told(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Told {
            errors: Vec<String>,
        }
        match serde_json::from_slice::<Told>(&self.body) {
            Ok(told) if !told.errors.is_empty() => {
                let text = told.errors.join("; ");
                let words: Vec<_> = text.split_whitespace().collect();
                let text: String = words.join(" ").chars().take(MAX_TOLD).collect();
                format!(" ({text})")
            }
            _ => String::new(),
        }
    }

    /// The answer as a word of this program.
    pub(super) fn parse<'a, T: serde::Deserialize<'a>>(&'a self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The error of serde may repeat what it read.
            Failure::new(format!(
                "{what}: the answer is not of the expected form (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }

    /// That it is not of the expected kind.
    pub(super) fn unexpected(&self, what: &str) -> Failure {
        Failure::new(format!("{what}: {}{}", self.status, self.told()))
    }

    fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
    }
}

/// The header that has all requests of a command in one trace: that of whoever started it, or a new one.
pub(super) fn traceparent(environment: &Environment) -> Option<(HeaderName, HeaderValue)> {
    let given = environment.variable(TRACEPARENT_VARIABLE);
    let given = given.as_ref().map(|value| value.as_str());
    let trace =
        Trace::of_request(given.into_iter().map(str::as_bytes), Uuid::new_v4().into_bytes());
    // Nothing is told of the command itself, so what its caller is at is what requests are a part of.
    let value = given.filter(|_| trace.parent().is_some());
    let value = value.map_or_else(|| trace.to_string(), str::to_owned);
    HeaderValue::try_from(value).ok().map(|value| (TRACEPARENT, value))
}

/// How long to wait: as the server asks, but never less than it is our own turn to.
fn pause_of(asked: Option<Duration>, own: Duration) -> Duration {
    asked.unwrap_or_default().max(own).min(LONGEST_PAUSE)
}

impl TlsPaths<'_> {
    fn config(&self) -> Result<ClientConfig, Failure> {
        let cannot = |path: &Path, error: &dyn std::error::Error| {
            Failure::because(format!("cannot use {}", path.display()), error)
        };
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(self.ca).map_err(|error| cannot(self.ca, &error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| cannot(self.ca, &error))?;
            // The bundle of a system has some that are too odd for rustls.
            let _odd = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err(Failure::new(format!("{} has no certificate", self.ca.display())));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::because("cannot use TLS", &error))?
            .with_root_certificates(roots);
        let Some((certificate, key)) = self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| cannot(certificate, &error))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| cannot(key, &error))?;
        builder.with_client_auth_cert(chain, private).map_err(|error| cannot(certificate, &error))
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// For whoever starts a program as a part of a trace; of a release candidate of OpenTelemetry's specification.
const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";
/// A connection that failed, a 429 and a 5xx are tried this often: with the pauses below, for a good minute.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Also of what a server asks for in `Retry-After`: a person looks on.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longer than any request of either server takes.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// 256 MiB: the names of some million secrets in one folder, which Vault gives at once.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Characters of an error that are repeated.
const MAX_TOLD: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(retry_after: &'static str, body: &str) -> Answer {
        let headers = [(header::RETRY_AFTER, HeaderValue::from_static(retry_after))];
        Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: headers.into_iter().collect(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
            is_repeated: false,
        }
    }

    #[test]
    fn it_waits_as_long_as_the_server_asks_within_bounds() {
        let wait = |text| pause_of(answer(text, "").retry_after(), FIRST_PAUSE);
        assert_eq!(wait("7"), Duration::from_secs(7));
        // Rounded down by the server: without a pause of our own all tries would be over at once.
        assert_eq!(wait("0"), FIRST_PAUSE);
        assert_eq!(wait("soon"), FIRST_PAUSE);
        assert_eq!(wait("99999999"), LONGEST_PAUSE);
    }

    #[test]
    fn what_a_server_says_of_an_error_is_one_line_of_bounded_length() {
        let told =
            answer("0", r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#).told();
        assert_eq!(told, " (1 error occurred: * permission denied)");
        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(MAX_TOLD + 1));
        assert_eq!(answer("0", &long).told().len(), MAX_TOLD + 3);
        for nothing in ["", "{}", "<html>", r#"{"errors":[]}"#] {
            assert_eq!(answer("0", nothing).told(), "");
        }
    }
}
