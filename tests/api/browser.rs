//! What web pages of others can do with a certificate that sits in a browser: nothing.

use bytes::Bytes;
use hyper::{Method, Version};

use crate::{
    codes::*,
    support::{Answer, Client, Server, both_engines},
};

both_engines!(
    a_change_that_another_site_asks_for_is_refused,
    a_change_from_our_own_page_or_from_no_page_is_done,
    reading_is_left_to_the_browser_and_no_answer_lets_another_site_read,
    every_answer_carries_the_security_headers,
);

const CREATE: &str = r#"{"path":"a","version":{"data":{}}}"#;

async fn a_change_that_another_site_asks_for_is_refused(server: Server) {
    let domain = server.domain().await;
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    let own = server.api_url.clone();
    let other_port = format!("{own}0");
    let plain = own.replace("https:", "http:");
    let config = format!("{}/secretConfig", domain.base);
    for client in [&domain.client, &http1] {
        for header in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", ""),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", &other_port),
            ("origin", &plain),
        ] {
            for (method, address) in [
                (Method::POST, domain.secret("")),
                (Method::PUT, domain.secret("a")),
                (Method::DELETE, domain.secret("a")),
                (Method::POST, domain.secret("a/version")),
                (Method::PUT, domain.secret("a/version/1")),
                (Method::PUT, config.clone()),
            ] {
                let headers = [("content-type", "application/json"), header];
                let body = Bytes::from_static(CREATE.as_bytes());
                client.send(method, &address, &headers, body).await.error(403, OTHER_SITE);
            }
        }
        // Both say where it comes from: either is enough to refuse.
        let headers = [
            ("content-type", "application/json"),
            ("sec-fetch-site", "cross-site"),
            ("origin", own.as_str()),
        ];
        let body = Bytes::from_static(CREATE.as_bytes());
        let answer = client.send(Method::POST, &domain.secret(""), &headers, body).await;
        answer.error(403, OTHER_SITE);
    }
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_change_from_our_own_page_or_from_no_page_is_done(server: Server) {
    let domain = server.domain().await;
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    let own = server.api_url.as_str();
    for (client, version) in [(&domain.client, Version::HTTP_2), (&http1, Version::HTTP_11)] {
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", own)],
            &[("sec-fetch-site", "same-origin"), ("origin", own)],
        ] {
            let mut all = vec![("content-type", "application/json")];
            all.extend_from_slice(headers);
            let body = Bytes::from_static(CREATE.as_bytes());
            let made = client.send(Method::POST, &domain.secret(""), &all, body).await;
            made.ok();
            assert_eq!(made.version, version);
            domain.client.delete(&domain.secret("a")).await.gone();
        }
    }
}

async fn reading_is_left_to_the_browser_and_no_answer_lets_another_site_read(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let headers = [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type"),
    ];
    let address = domain.secret("a");
    let read = domain.client.send(Method::GET, &address, &headers, Bytes::new()).await;
    read.ok();
    let asked = domain.client.send(Method::OPTIONS, &address, &headers, Bytes::new()).await;
    asked.error(405, METHOD_NOT_ALLOWED);
    let anonymous = server.client(None);
    let asked_first = anonymous.send(Method::OPTIONS, &address, &headers, Bytes::new()).await;
    asked_first.error(401, UNAUTHENTICATED);
    for answer in [read, asked, asked_first] {
        let names = answer.headers.keys().map(|name| name.as_str());
        let cors = names.filter(|name| name.starts_with("access-control")).count();
        assert_eq!(cors, 0, "{:?}", answer.headers);
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
    }
}

async fn every_answer_carries_the_security_headers(server: Server) {
    let domain = server.domain().await;
    let secret = domain.secret("a");
    let answers: Vec<Answer> = vec![
        domain.client.post(&domain.secret(""), CREATE).await,
        domain.client.get(&secret).await,
        domain.client.get(&domain.secret("")).await,
        domain.client.get(&domain.secret("b")).await,
        domain.client.get("/nothing").await,
        domain.client.json(Method::PATCH, &secret, "{}").await,
        domain.client.send(Method::PUT, &secret, &[], Bytes::new()).await,
        domain.client.delete(&secret).await,
        server.client(None).get(&secret).await,
        domain.client.get("/swagger/").await,
        server.docs_client().get("/swagger/").await,
        server.docs_client().get("/nothing").await,
    ];
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 404, 405, 415, 204, 401, 200, 200, 404]);
    for answer in answers {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        // It would count for every port of the host, and there is no plain HTTP to keep from.
        assert_eq!(answer.header("strict-transport-security"), None);
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("server"), None);
        assert!(answer.header("x-request-id").is_some());
    }
}
