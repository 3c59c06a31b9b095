//! The operations listener of the real program.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::harness::{Server, Trial, okmsd};

#[tokio::test]
async fn metrics_tell_when_certificates_end_and_how_the_audit_log_does() {
    let mut trial = Trial::start();
    trial.stop();
    let cwd = trial.cwd.path();
    // Free now; nobody else is likely to take them before the server does.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let (api, operations) = (free().to_string(), free());
    let arguments = ["serve", "--config", "certs/dev/okmsd.toml", "--docs-listen", "off"];
    let mut command = okmsd(cwd, &[&arguments[..], &["--api-listen", &api]].concat());
    command.env("OKMSD_OPERATIONS_LISTEN", operations.to_string());
    let is_ready = || TcpStream::connect(operations).is_ok();
    let server = Server::start(command, &cwd.join("serve.log"), is_ready);

    let metrics = get(operations, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    for kind in ["server", "own_authority"] {
        let name = format!("okmsd_certificate_expiry_timestamp_seconds{{kind=\"{kind}\"");
        let line = metrics.lines().find(|line| line.starts_with(&name));
        let ends = line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok());
        assert!(ends.is_some_and(|ends| ends > 1_760_000_000), "{kind}: {metrics}");
    }
    assert!(metrics.lines().any(|line| line == "okmsd_audit_ready 1"), "{metrics}");
    let before = audit_records(&metrics);
    let client = trial.client_of(&format!("https://localhost:{}", api.rsplit(':').next().unwrap()));
    client.get(&trial.secrets()).await.ok();
    assert!(audit_records(&get(operations, "/metrics")) > before);
    assert!(get(operations, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(operations, "/readyz").starts_with("HTTP/1.1 200 "));
    // Nothing else is there, least of all the API.
    assert!(get(operations, &trial.secrets()).starts_with("HTTP/1.1 404 "));
    assert!(get(operations, "/swagger/").starts_with("HTTP/1.1 404 "));
    assert_eq!(server.stop(), Some(0));
}

/// What the operations listener answers.
pub fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("to send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn audit_records(metrics: &str) -> u64 {
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("okmsd_audit_records_total "));
    line.expect("a count").parse().expect("a number")
}
