//! `okmsd healthcheck`: whether the server of this machine answers.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error as TlsError, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{Failure, config_args::ConfigArguments};
use crate::config::{ClientCertificate, Config, Environment};

/// Check that the server of this machine answers, for container platforms
///
/// Connects to the API listener of the configuration, accepts no other certificate than the one
/// configured, and asks without a client certificate: the server must refuse that in the form of
/// the API. Exits with 0 if it does.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// How many seconds the server may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

impl Arguments {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let address = reachable(config.server.api_listen.0);
        let answer = ask(&config, address, Duration::from_secs(self.timeout))
            .map_err(|error| Failure::because(format!("no answer from {address}"), &error))?;
        match answer {
            Answer::Text(text) if is_refusal(&text) => Ok(()),
            Answer::RefusedHandshake
                if config.tls.client_certificate == ClientCertificate::Required =>
            {
                Ok(())
            }
            _ => Err(Failure::new(format!("{address} answers, but not as this server does"))),
        }
    }
}

enum Answer {
    Text(Vec<u8>),
    RefusedHandshake,
}

fn ask(config: &Config, address: SocketAddr, timeout: Duration) -> io::Result<Answer> {
    let path = &config.tls.certificate_file;
    let expected = CertificateDer::from_pem_file(path).map_err(|error| {
        io::Error::other(format!("cannot read a certificate from {}: {error}", path.display()))
    })?;
    let tcp = TcpStream::connect_timeout(&address, timeout)?;
    tcp.set_read_timeout(Some(timeout))?;
    tcp.set_write_timeout(Some(timeout))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(OnlyThis { expected, provider: Arc::clone(&provider) });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let connection = ClientConnection::new(Arc::new(tls), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    let mut text = Vec::new();
    let exchange = stream
        .write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {address}\r\n{HEADERS}\r\n").as_bytes())
        .and_then(|()| (&mut stream).take(MAX_ANSWER_BYTES).read_to_end(&mut text));
    match exchange {
        Ok(_) => Ok(Answer::Text(text)),
        // A server that closes without TLS's own goodbye has still answered.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !text.is_empty() => {
            Ok(Answer::Text(text))
        }
        Err(error) if wants_a_certificate(&error) => Ok(Answer::RefusedHandshake),
        Err(error) => Err(error),
    }
}

/// The answer to a request without a certificate: 401 and an error object.
fn is_refusal(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    head.starts_with("HTTP/1.1 401 ") && body.contains("\"error_code\"")
}

fn wants_a_certificate(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    // TLS 1.3 has a word for it, TLS 1.2 only the general one.
    matches!(
        tls,
        Some(TlsError::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure
        ))
    )
}

/// Where a listener on all addresses can be reached from its own machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Accepts one certificate and no other, whatever its names and dates: the check must work under
/// any name, and whether clients still accept the certificate is not what it is about.
#[derive(Debug)]
struct OnlyThis {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyThis {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if *end_entity == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A domain that no server has; who asks for it without a certificate is not told so.
const PATH: &str = "/api/00000000-0000-0000-0000-000000000000/v2/secret";

const HEADERS: &str = "Accept: application/json\r\nConnection: close\r\n";

/// 64 KiB; the expected answer has a few hundred bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_all_addresses_are_reached_by_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.7:1", "192.0.2.7:1"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), expected.parse().unwrap(), "{listen}");
        }
    }

    #[test]
    fn only_the_refusal_of_the_api_is_health() {
        let head = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\n\r\n";
        assert!(is_refusal(format!("{head}{{\"error_code\":50475011}}").as_bytes()));
        for other in [
            "",
            head,
            "HTTP/1.1 200 OK\r\n\r\n{\"error_code\":1}",
            "HTTP/1.1 500 Internal Server Error\r\n\r\n{\"error_code\":1}",
        ] {
            assert!(!is_refusal(other.as_bytes()), "{other}");
        }
    }
}
