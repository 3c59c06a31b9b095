//! No spelling of a path leads out of what a policy is about, and a refusal tells nothing.

use hyper::Method;

use super::{GET, GET_DATA, apply, client_of, identified, resource, user};
use crate::{
    codes::{FORBIDDEN, INTERNAL, UNAVAILABLE},
    support::{Server, both_engines, send_raw},
};

both_engines!(
    no_spelling_of_a_path_escapes_its_pattern,
    a_refusal_is_decided_before_storage_is_asked,
    each_spelling_of_an_allowed_path_is_allowed,
);

async fn no_spelling_of_a_path_escapes_its_pattern(server: Server) {
    let domain = server.domain().await;
    for path in ["team/a/x", "team/b/x", "team", "other", "Team/a/x"] {
        domain.create(path, r#"{"password":"CANARY"}"#).await;
    }
    let resources = [resource(domain.okms_id, "/secret/team/a/*")];
    apply(&server, "team-a", &user("a"), &resources, &[("allow", &["*"])]).await;
    let (certificate, key) = identified(&server, domain.okms_id, &[&user("a")]).await;
    let client = server.client(Some((&certificate, &key)));
    client.get(&domain.secret("team/a/x?includeData=true")).await.ok();
    for path in [
        "team/b/x",
        "team%2Fb%2Fx",
        "team",
        "other",
        "Team/a/x",
        "TEAM%2FA%2FX",
        "team/a",
        "team/ab/x",
        "team/%62/x",
        "no/such",
    ] {
        for rest in ["", "?includeData=true", "/version", "/version/1"] {
            let answer = client.get(&domain.secret(&format!("{path}{rest}"))).await;
            let text = answer.error(403, FORBIDDEN);
            assert_eq!(text, format!("not allowed: {GET} is needed"));
        }
    }
    for path in [
        "team/a/../b/x",
        "team/a/%2e%2e/b/x",
        "team/a/..%2fb%2fx",
        "team/a/%2E./b/x",
        "team/a/./x",
        "team/a//x",
        "/team/b/x",
        "team/a/x/",
        "team/a/%252e%252e/b/x",
        "team%252Fa%252Fx",
        "team/\u{430}/x",
        "team/%D0%B0/x",
        "t\u{435}am/a/x",
        "team/a/x%00",
        "team/a/*",
        "team/a/%2A",
        "team/%EF%BD%81/x",
        "team\u{2215}a/x",
        "team%5Ca%5Cx",
    ] {
        // As bytes on the wire: a client would put some of these right.
        let target = domain.secret(path);
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let tls = server.tls(Some((&certificate, &key)));
        let answer = send_raw(&server.api_url, tls, request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(!answer.text().contains("CANARY"), "{path}");
    }
}

async fn each_spelling_of_an_allowed_path_is_allowed(server: Server) {
    let domain = server.domain().await;
    domain.create("team/a/x", r#"{"k":"v"}"#).await;
    for (index, pattern) in
        ["team%2Fa%2Fx", "team/a/x", "t%65am%2fa/x", "team/*"].iter().enumerate()
    {
        let urn = user(&index.to_string());
        let resources = [resource(domain.okms_id, &format!("/secret/{pattern}"))];
        apply(&server, &urn[20..], &urn, &resources, &[("allow", &[GET, GET_DATA])]).await;
        let client = client_of(&server, domain.okms_id, &[&urn]).await;
        for path in ["team/a/x", "team%2Fa%2Fx", "t%65am%2fa/x", "%74eam/a%2Fx"] {
            let read = client.get(&domain.secret(&format!("{path}?includeData=true"))).await.ok();
            assert_eq!(read["version"]["data"]["k"], "v");
        }
    }
}

/// Where the table of secrets is gone, whoever is denied sees what they always see.
async fn a_refusal_is_decided_before_storage_is_asked(server: Server) {
    let domain = server.domain().await;
    domain.create("a/x", r#"{"password":"CANARY"}"#).await;
    let resources = [resource(domain.okms_id, "/secret/b/*")];
    apply(&server, "b", &user("b"), &resources, &[("allow", &["*"])]).await;
    let client = client_of(&server, domain.okms_id, &[&user("b")]).await;
    let requests = [
        (Method::GET, "a/x", ""),
        (Method::GET, "a/x?includeData=true", ""),
        (Method::GET, "a/x/version", ""),
        (Method::GET, "a/x/version/1", ""),
        (Method::PUT, "a/x", r#"{"version":{"data":{}}}"#),
        (Method::PUT, "a/x", r#"{"maxVersions":1}"#),
        (Method::PUT, "a/x/version/1", r#"{"state":"deleted"}"#),
        (Method::POST, "a/x/version", r#"{"data":{}}"#),
        (Method::POST, "", r#"{"path":"a/x","version":{"data":{}}}"#),
        (Method::DELETE, "a/x", ""),
    ];
    let answers = async || {
        let mut answers = Vec::new();
        for path in ["a/x", "a/y"] {
            for (method, address, body) in &requests {
                let (address, body) = (address.replace("a/x", path), body.replace("a/x", path));
                let answer = client.json(method.clone(), &domain.secret(&address), body).await;
                answer.error(403, FORBIDDEN);
                answers.push(answer.text_without_request_id());
            }
        }
        answers
    };
    let before = answers().await;
    assert_eq!(before[..requests.len()], before[requests.len()..], "there or not is all the same");
    server.database.execute("ALTER TABLE secrets RENAME TO hidden").await;
    assert_eq!(answers().await, before);
    // The others do ask storage.
    let asked = client.get(&domain.secret("b/x")).await;
    let code = asked.value()["error_code"].as_i64();
    assert!(matches!(code, Some(INTERNAL | UNAVAILABLE)), "{}", asked.text());
    server.database.execute("ALTER TABLE hidden RENAME TO secrets").await;
    let read = domain.client.get(&domain.secret("a/x?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["password"], "CANARY");
}
