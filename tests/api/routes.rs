//! What holds for every request: routes, methods, versions of HTTP, headers of answers.

use bytes::Bytes;
use hyper::{Method, Version};

use crate::{
    codes::*,
    support::{Client, Server, both_engines, send_raw},
};

both_engines!(
    http_1_and_http_2_both_work,
    success_is_exactly_200_with_json_or_204_with_nothing,
    an_unknown_route_is_not_found,
    a_method_that_a_route_does_not_have_is_refused_with_those_it_has,
    head_answers_as_get_does_without_the_body,
    every_request_has_an_id_of_its_own,
    hundreds_of_requests_share_a_connection,
    requests_that_no_client_sends_are_answered_too,
);

async fn http_1_and_http_2_both_work(server: Server) {
    let domain = server.domain().await;
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    for (client, version) in [(&domain.client, Version::HTTP_2), (&http1, Version::HTTP_11)] {
        let body = r#"{"path":"team/a","version":{"data":{"n":1}}}"#;
        let made = client.post(&domain.secret(""), body).await;
        made.ok();
        assert_eq!(made.version, version);
        let read = client.get(&domain.secret("team%2Fa?includeData=true")).await;
        assert_eq!(read.ok()["version"]["data"]["n"], 1);
        let large = format!(r#"{{"path":"b","x":"{}"}}"#, "x".repeat(600_000));
        client.post(&domain.secret(""), large).await.error(413, BODY_TOO_LARGE);
        client.get(&domain.secret("team//a")).await.error(400, INVALID_PATH);
        client.delete(&domain.secret("team/a")).await.gone();
    }
}

async fn success_is_exactly_200_with_json_or_204_with_nothing(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}}}"#;
    let config = format!("{}/secretConfig", domain.base);
    let client = &domain.client;
    // `ok` and `gone` check status and type.
    client.post(&domain.secret(""), body).await.ok();
    client.get(&domain.secret("")).await.ok();
    client.get(&domain.secret("a")).await.ok();
    client.put(&domain.secret("a"), r#"{"version":{"data":{}}}"#).await.ok();
    client.get(&domain.secret("a/version")).await.ok();
    client.post(&domain.secret("a/version"), r#"{"data":{}}"#).await.ok();
    client.put(&domain.secret("a/version"), r#"{"data":{}}"#).await.ok();
    client.get(&domain.secret("a/version/1")).await.ok();
    client.put(&domain.secret("a/version/1"), r#"{"state":"deleted"}"#).await.ok();
    client.get(&config).await.ok();
    client.put(&config, r#"{"maxVersions":1}"#).await.ok();
    client.delete(&domain.secret("a")).await.gone();
}

async fn an_unknown_route_is_not_found(server: Server) {
    let domain = server.domain().await;
    let id = domain.okms_id;
    for path in [
        "/nothing".to_owned(),
        "/api".to_owned(),
        "/api/".to_owned(),
        format!("/api/{id}"),
        format!("/api/{id}/"),
        format!("/api/{id}/v2"),
        format!("/api/{id}/v2/"),
        format!("/api/{id}/v2/secrets"),
        format!("/api/{id}/v2/Secret"),
        format!("/api/{id}/v2/secretConfig/x"),
        format!("/api/{id}/v3/secret"),
        format!("/API/{id}/v2/secret"),
        format!("//api/{id}/v2/secret"),
        format!("/x/../api/{id}/v2/secret"),
        format!("/api/{id}/v2%2Fsecret"),
        format!("/v2/okms/resource/{id}"),
        "/swagger/nothing".to_owned(),
        "/swagger/../index.html".to_owned(),
        "/swagger/..%2F..%2Fetc%2Fpasswd".to_owned(),
    ] {
        let text = domain.client.get(&path).await.error(404, ROUTE_NOT_FOUND);
        assert!(!text.contains("passwd"), "{text}");
        if !path.starts_with("/swagger/") {
            domain.client.post(&path, "{}").await.error(404, ROUTE_NOT_FOUND);
        }
    }
}

async fn a_method_that_a_route_does_not_have_is_refused_with_those_it_has(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let config = format!("{}/secretConfig", domain.base);
    for (address, allowed) in [
        (domain.secret("").trim_end_matches('/').to_owned(), &["GET", "HEAD", "POST"][..]),
        (domain.secret(""), &["GET", "HEAD", "POST"]),
        (domain.secret("a"), &["GET", "HEAD", "PUT", "DELETE"]),
        (domain.secret("a/b"), &["GET", "HEAD", "PUT", "DELETE"]),
        (domain.secret("a/version"), &["GET", "HEAD", "POST", "PUT"]),
        (domain.secret("a/version/1"), &["GET", "HEAD", "PUT"]),
        (config, &["GET", "HEAD", "PUT"]),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST", "get"] {
            if allowed.contains(&method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = domain.client.json(method.clone(), &address, "{}").await;
            answer.error(405, METHOD_NOT_ALLOWED);
            let mut allow: Vec<_> =
                answer.header("allow").expect("Allow").split(',').map(str::trim).collect();
            let mut expected = allowed.to_vec();
            allow.sort_unstable();
            expected.sort_unstable();
            assert_eq!(allow, expected, "{method} {address}");
        }
    }
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn head_answers_as_get_does_without_the_body(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"password":"x"}"#).await;
    for (address, status) in [("a?includeData=true", 200), ("b", 404)] {
        let address = domain.secret(address);
        let head = domain.client.send(Method::HEAD, &address, &[], Bytes::new()).await;
        assert_eq!(head.status, status);
        assert!(head.body.is_empty());
        assert_eq!(head.header("content-type"), Some("application/json"));
    }
}

async fn every_request_has_an_id_of_its_own(server: Server) {
    let domain = server.domain().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        let headers = [("x-request-id", "forged")];
        let list = domain.client.page(&domain.secret(""), &headers).await;
        list.ok();
        assert!(ids.insert(list.header("x-request-id").expect("an id").to_owned()));
        let missing = domain.client.get(&domain.secret("a")).await;
        missing.error(404, SECRET_NOT_FOUND);
        assert!(ids.insert(missing.header("x-request-id").expect("an id").to_owned()));
    }
    assert!(ids.iter().all(|id| id.len() == "OKMS.".len() + 36), "{ids:?}");
}

async fn hundreds_of_requests_share_a_connection(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let requests = (0..300).map(|_| {
        let (client, address) = (domain.client.clone(), domain.secret("a"));
        tokio::spawn(async move { client.get(&address).await.status })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.expect("no panic"), 200);
    }
    // An absolute address in the request line names the same routes.
    let request =
        format!("GET {}{} HTTP/1.1\r\nhost: localhost\r\n\r\n", server.api_url, domain.secret("a"));
    send_raw(&server.api_url, domain.tls(&server), request.as_bytes()).await.ok();
}

async fn requests_that_no_client_sends_are_answered_too(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let secret = domain.secret("a");
    let send = |line: String| {
        let request = format!("{line}\r\nhost: localhost\r\n\r\n");
        let (url, tls) = (server.api_url.clone(), domain.tls(&server));
        async move { send_raw(&url, tls, request.as_bytes()).await }
    };
    send("OPTIONS * HTTP/1.1".into()).await.error(404, ROUTE_NOT_FOUND);
    send("CONNECT localhost:443 HTTP/1.1".into()).await.error(404, ROUTE_NOT_FOUND);
    send(format!("get {secret} HTTP/1.1")).await.error(405, METHOD_NOT_ALLOWED);
    let slashes = "/".repeat(5_000);
    send(format!("GET {secret}{slashes} HTTP/1.1")).await.error(400, INVALID_PATH);
    send(format!("GET {secret} HTTP/1.0")).await.ok();
    // An absolute address in the request line names the same routes.
    send(format!("GET {}{secret} HTTP/1.1", server.api_url)).await.ok();
}
