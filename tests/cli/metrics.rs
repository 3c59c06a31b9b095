//! The operations listener of the real program.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use crate::{
    harness::{Server, Trial, okmsd},
    tools::at_hand,
};

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
    let metrics = get(operations, "/metrics");
    assert!(audit_records(&metrics) > before);
    assert!(get(operations, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(operations, "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(
        metrics.contains("okmsd_requests_total{operation=\"ListSecretV2\",status=\"200\"} 1\n")
    );
    check_by_promtool(&metrics);
    // Nothing else is there, least of all the API.
    assert!(get(operations, &trial.secrets()).starts_with("HTTP/1.1 404 "));
    assert!(get(operations, "/swagger/").starts_with("HTTP/1.1 404 "));
    assert_eq!(server.stop(), Some(0));
}

/// promtool reads the older form, in which a counter is described under its full name. It checks names and help too.
fn check_by_promtool(answer: &str) {
    if !at_hand(&["promtool"]) {
        return;
    }
    let (_, text) = answer.split_once("\r\n\r\n").expect("a body");
    let counters: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    assert!(counters.len() > 5, "{text}");
    let older: String = text
        .lines()
        .map(|line| {
            let mut words: Vec<_> = line.splitn(4, ' ').map(str::to_owned).collect();
            if words[0] == "#" && words.get(2).is_some_and(|name| counters.contains(&&**name)) {
                words[2].push_str("_total");
            }
            format!("{}\n", words.join(" "))
        })
        .collect();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool");
    child.stdin.take().expect("a pipe").write_all(older.as_bytes()).expect("to write");
    let output = child.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{older}");
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
