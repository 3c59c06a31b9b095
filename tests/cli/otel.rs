//! Traces, as a collector of OpenTelemetry gets them.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    client::Client,
    harness::{Server, Trial, okmsd},
};

/// `okmsd serve` with a collector at that address.
fn serve(trial: &Trial, collector: &str) -> (Server, Client) {
    // Free now; nobody else is likely to take it before the server does.
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["serve", "--config", "certs/dev/okmsd.toml", "--docs-listen", "off"];
    let mut command: Command =
        okmsd(trial.cwd.path(), &[&arguments[..], &["--api-listen", &api]].concat());
    command.env("OKMSD_OTLP_ENDPOINT", format!("http://{collector}"));
    let is_ready = || TcpStream::connect(&api).is_ok();
    let server = Server::start(command, &trial.cwd.path().join("serve.log"), is_ready);
    let client = trial.client_of(&format!("https://localhost:{}", api.rsplit(':').next().unwrap()));
    (server, client)
}

/// Reads one request of an exporter: its head, and its body.
fn take(stream: &mut TcpStream) -> (String, Value) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, length) = loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            break (head.clone(), length.unwrap().parse::<usize>().unwrap());
        }
    };
    while bytes.len() < length {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0);
        bytes.extend_from_slice(&buffer[..read]);
    }
    (head, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn otel_a_collector_gets_a_span_of_each_request_and_nothing_of_its_content() {
    let mut trial = Trial::start();
    trial.stop();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap().to_string();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in collector.incoming() {
            let mut stream = stream.unwrap();
            let taken = take(&mut stream);
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).unwrap();
            if sender.send(taken).is_err() {
                break;
            }
        }
    });
    let (server, client) = serve(&trial, &address);
    let secrets = trial.secrets();
    let body = r#"{"path":"signpost","version":{"data":{"k":"canary"}}}"#;
    client.post(&secrets, body).await.ok();
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let read = async |flags: &str| {
        let traceparent = format!("00-{theirs}-00f067aa0ba902b7-{flags}");
        let path = format!("{secrets}/signpost?includeData=true");
        client.send(hyper::Method::GET, &path, &[("traceparent", &traceparent)], "".into()).await
    };
    let kept = read("01").await;
    let id = kept.header("x-request-id").unwrap().to_owned();
    kept.ok();
    // Its caller does not keep it.
    read("00").await.ok();
    assert_eq!(client.get("/canary").await.status, 404);
    // What is there yet is sent before the end.
    assert_eq!(server.stop(), Some(0));

    let batches: Vec<_> = received.try_iter().collect();
    let mut spans = HashMap::new();
    for (head, body) in &batches {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        assert!(!body.to_string().contains("canary") && !body.to_string().contains("signpost"));
        let [resource] = &body["resourceSpans"].as_array().unwrap()[..] else { panic!("{body}") };
        let service = &resource["resource"]["attributes"][0];
        assert_eq!(
            (&service["key"], &service["value"]["stringValue"]),
            (&"service.name".into(), &"okmsd".into())
        );
        for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
            spans.insert(span["name"].as_str().unwrap().to_owned(), span.clone());
            let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
            let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
            assert!(start > 1_760_000_000_000_000_000 && start < end, "{span}");
            assert_eq!(span["kind"], 2);
        }
    }
    let mut names: Vec<_> = spans.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["GetSecretV2", "PostSecretV2", "other"]);
    let attributes = |span: &Value| {
        let value = |one: &Value| {
            let value = one["value"].as_object().unwrap().values().next().unwrap();
            (one["key"].as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned())
        };
        span["attributes"].as_array().unwrap().iter().map(value).collect::<HashMap<_, _>>()
    };
    let span = &spans["GetSecretV2"];
    assert_eq!(
        (&span["traceId"], &span["parentSpanId"]),
        (&theirs.into(), &"00f067aa0ba902b7".into())
    );
    assert_eq!(span["spanId"], id.replace('-', "")[21..]);
    let found = attributes(span);
    assert_eq!(found["okmsd.request.id"], id);
    assert_eq!(found["http.request.method"], "GET");
    assert_eq!(found["http.response.status_code"], "200");
    assert_eq!(attributes(&spans["other"])["http.response.status_code"], "404");
    assert_eq!(spans["PostSecretV2"]["parentSpanId"], "", "it has a trace of its own");
}

/// One that is not there, and one that takes connections and never answers.
#[tokio::test]
async fn otel_a_collector_that_does_not_answer_holds_nothing_up() {
    let mut trial = Trial::start();
    trial.stop();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&silent, &gone].map(|one| one.local_addr().unwrap().to_string());
    drop(gone);
    for address in addresses {
        let (server, client) = serve(&trial, &address);
        for _ in 0..100 {
            client.get(&trial.secrets()).await.ok();
        }
        assert_eq!(server.stop(), Some(0), "{address}");
        let log = std::fs::read_to_string(trial.cwd.path().join("serve.log")).unwrap();
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    }
}
