//! What testssl.sh thinks of our listeners.

use std::{fs, process::Command, thread};

use serde_json::Value;

use crate::{target::Target, tools::at_hand};

#[test]
fn testssl_finds_nothing_to_complain_of() {
    if !at_hand(&["testssl", "openssl"]) {
        return;
    }
    let target = Target::start(None);
    thread::scope(|scope| {
        // The API asks for a client certificate, and the documentation does not.
        for name in ["OKMS_ENDPOINT", "OKMS_DOCS_URL"] {
            let target = &target;
            scope.spawn(move || {
                let findings = findings(target, name);
                // Protocols, ciphers, forward secrecy, defaults, and known attacks were all looked at.
                for id in ["TLS1_3", "cipherlist_NULL", "PFS", "cert_notAfter", "ROBOT"] {
                    let found = findings.iter().any(|finding| finding["id"] == id);
                    assert!(found, "{name}: no finding {id}: {findings:?}");
                }
                let bad: Vec<_> = findings.iter().filter(|finding| is_bad(finding)).collect();
                assert!(bad.is_empty(), "{name}: {bad:#?}");
            });
        }
    });
}

/// What testssl finds, looked at again as long as it says that a check of its own did not come to an end.
///
/// Its client of OpenSSL leaves as soon as the handshake is done. On a busy machine that is before a ticket of TLS 1.3
/// arrived, which follows the handshake; resuming with no ticket fails then without a connection.
fn findings(target: &Target, name: &str) -> Vec<Value> {
    let mut findings = look(target, name);
    for _ in 1..ATTEMPTS {
        if !findings.iter().any(|finding| finding["severity"] == "WARN" && is_bad(finding)) {
            break;
        }
        findings = look(target, name);
    }
    findings
}

/// How often testssl is started at most: each takes a minute or two.
const ATTEMPTS: u32 = 4;

fn look(target: &Target, name: &str) -> Vec<Value> {
    let report = target.folder().join(format!("{name}.json"));
    // It writes over no report of before.
    let _absent = fs::remove_file(&report);
    let url = target.variable(name).trim_end_matches("/swagger/");
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"]);
    // Protocols, ciphers, forward secrecy, order of ciphers, what the server says by itself, headers, attacks.
    // Left out are the simulated clients and the list of all ciphers one by one, which judge nothing.
    testssl.args(["-p", "-s", "-f", "-P", "-S", "-h", "-U"]);
    testssl.args(["--add-ca", target.variable("OKMS_CA"), "--jsonfile"]).arg(&report).arg(url);
    let output = testssl.output().expect("testssl starts");
    let text = fs::read_to_string(&report).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stdout));
    });
    serde_json::from_str(&text).expect("a list of findings")
}

/// Whether a finding is worse than informational and not one of those that we mean.
fn is_bad(finding: &Value) -> bool {
    let severity = finding["severity"].as_str().expect("a severity");
    let accepted = ACCEPTED.iter().any(|(id, _)| finding["id"] == *id);
    !matches!(severity, "OK" | "INFO") && !accepted
}

/// What testssl calls worse, by its id, and why it is right here.
const ACCEPTED: [(&str, &str); 3] = [
    ("engine_problem", "about the OpenSSL that testssl itself uses"),
    (
        "cert_revocation",
        "the private authority of `okmsd dev` publishes no list: clients know it by its file",
    ),
    (
        "HSTS",
        "it would count for all ports of the host, and no plain HTTP is served; see `api::envelope`",
    ),
];
