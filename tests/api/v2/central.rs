//! `/v2/okms/resource/{okmsId}/secret…`: the same API under the address of the central one.

use hyper::Method;

use crate::support::{Domain, Server, both_engines};

both_engines!(every_operation_answers_the_same_under_both_addresses);

async fn every_operation_answers_the_same_under_both_addresses(server: Server) {
    let domain = server.domain().await;
    let regional = answers(&domain, &domain.base).await;
    let central = answers(&domain, &format!("/v2/okms/resource/{}", domain.okms_id)).await;
    assert_eq!(regional.len(), central.len());
    for (regional, central) in regional.iter().zip(&central) {
        assert_eq!(regional, central);
    }
}

/// Asks everything once, and leaves the domain as it was.
async fn answers(domain: &Domain, base: &str) -> Vec<String> {
    let requests = [
        (Method::GET, "/secret", ""),
        (Method::POST, "/secret", r#"{"path":"team/a","version":{"data":{"n":1.10}}}"#),
        (Method::POST, "/secret/", r#"{"path":"team/b","version":{"data":{}},"casRequired":true}"#),
        (Method::POST, "/secret", r#"{"path":"team/a","version":{"data":{}}}"#),
        (Method::GET, "/secret/", ""),
        (Method::GET, "/secret/team/a?includeData=true", ""),
        (Method::GET, "/secret/team%2Fa?version=1", ""),
        (Method::GET, "/secret/team/c", ""),
        (Method::PUT, "/secret/team/a?cas=1", r#"{"maxVersions":3,"version":{"data":{"n":2}}}"#),
        (Method::PUT, "/secret/team/b", r#"{"version":{"data":{}}}"#),
        (Method::GET, "/secret/team/a/version", ""),
        (Method::POST, "/secret/team/a/version?cas=2", r#"{"data":{"n":3}}"#),
        (Method::PUT, "/secret/team%2Fa/version", r#"{"data":{"n":4},"x":1}"#),
        (Method::GET, "/secret/team/a/version/2?includeData=true", ""),
        (Method::GET, "/secret/team/a/version/1", ""),
        (Method::PUT, "/secret/team/a/version/3", r#"{"state":"deactivated"}"#),
        (Method::PUT, "/secret/team/a/version/3", r#"{"state":"gone"}"#),
        (Method::GET, "/secret/team//a", ""),
        (Method::PATCH, "/secret/team/a", "{}"),
        (Method::GET, "/secretConfig", ""),
        (Method::PUT, "/secretConfig", r#"{"casRequired":true,"maxVersions":7}"#),
        (Method::PUT, "/secretConfig", "{}"),
        (Method::PUT, "/secretConfig", r#"{"casRequired":false,"maxVersions":0}"#),
        (Method::DELETE, "/secret/team/a", ""),
        (Method::DELETE, "/secret/team%2Fb", ""),
        (Method::DELETE, "/secret/team/b", ""),
        (Method::GET, "/nothing", ""),
    ];
    let mut answers = Vec::new();
    for (method, path, body) in requests {
        let asked = format!("{method} {path}");
        let answer = domain.client.json(method, &format!("{base}{path}"), body).await;
        let (status, allow) = (answer.status, answer.header("allow").map(str::to_owned));
        answers.push(format!("{asked}: {status} {allow:?} {}", answer.text_without_request_id()));
    }
    answers
}
