//! Answers that are known before a body was read, as the real curl sees them.

use std::process::Command;

use crate::{program::Dev, tools::at_hand};

/// Over HTTP/2, a body that is dropped unread can cost the client the answer, now and then: so often
/// enough for that to show.
#[test]
fn curl_gets_the_answer_to_a_body_that_nobody_reads() {
    if !at_hand(&["curl"]) {
        return;
    }
    let dev = Dev::start();
    let (endpoint, id) = (dev.variable("OKMS_ENDPOINT"), dev.variable("OKMS_ID"));
    let secret = format!("{endpoint}/api/{id}/v2/secret");
    let foreign = format!("{endpoint}/api/00000000-0000-4000-8000-000000000000/v2/secret");
    let (json, long) = (r#"{"path":"a","version":{"data":{}}}"#, "x".repeat(5_000_000));
    let (json, text) = (("application/json", json), ("text/plain", json));
    for (method, url, (content_type, body), certificate, expected) in [
        ("POST", secret.clone(), json, false, "401"),
        ("POST", foreign, json, true, "404"),
        ("PUT", format!("{secret}/a?cas=x"), json, true, "400"),
        ("PUT", format!("{secret}/a//b"), json, true, "400"),
        ("PATCH", format!("{secret}/a"), json, true, "405"),
        ("POST", format!("{endpoint}/nothing"), json, true, "404"),
        ("POST", secret.clone(), text, true, "415"),
        ("POST", secret.clone(), ("application/json", long.as_str()), true, "413"),
        ("DELETE", format!("{secret}/a"), json, true, "400"),
    ] {
        for version in ["--http2", "--http1.1"] {
            for _ in 0..20 {
                let mut curl = Command::new("curl");
                curl.args([version, "-sS", "-w", "%{http_code}", "-o", "/dev/null", "-X", method]);
                curl.args(["--cacert", dev.variable("OKMS_CA"), "--data-binary", "@-", &url]);
                curl.args(["-H", &format!("Content-Type: {content_type}")]);
                if certificate {
                    curl.args(["--cert", dev.variable("OKMS_CERT")]);
                    curl.args(["--key", dev.variable("OKMS_KEY")]);
                }
                assert_eq!(run(curl, body), expected, "{version} {method} {url}");
            }
        }
    }
}

/// What curl prints when it is given this input.
fn run(mut curl: Command, input: &str) -> String {
    use std::{io::Write, process::Stdio};

    let curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut curl = curl.spawn().expect("curl");
    curl.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("curl reads it");
    let output = curl.wait_with_output().expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text + &String::from_utf8_lossy(&output.stderr)
}
