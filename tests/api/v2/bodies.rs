//! Bodies that are refused, and what is said of them.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use crate::{
    codes::*,
    support::{Domain, RawConnection, Server, both_engines, send_raw},
};

both_engines!(
    a_body_that_is_not_declared_as_json_is_refused,
    a_body_declared_as_json_in_any_way_is_read,
    a_body_over_the_cap_is_refused,
    text_that_is_not_json_is_refused,
    the_same_key_twice_is_refused_at_any_depth,
    a_field_in_two_spellings_or_places_is_refused,
    absurd_nesting_is_refused,
    fields_of_the_wrong_type_are_refused,
    fields_that_are_missing_are_named,
    no_answer_repeats_what_was_sent,
    reading_and_deleting_ignore_headers_of_a_body,
    a_body_that_is_encoded_is_refused,
    a_deletion_with_a_query_or_a_body_is_refused,
    a_deletion_waits_for_the_end_of_a_body_and_asks_again_who_sends_it,
);

/// Every address that takes a body.
fn with_body(domain: &Domain) -> Vec<(Method, String)> {
    let config = format!("{}/secretConfig", domain.base);
    vec![
        (Method::POST, domain.secret("")),
        (Method::PUT, domain.secret("a")),
        (Method::POST, domain.secret("a/version")),
        (Method::PUT, domain.secret("a/version")),
        (Method::PUT, domain.secret("a/version/1")),
        (Method::PUT, config),
    ]
}

const CREATE: &str = r#"{"path":"b","version":{"data":{}}}"#;

async fn a_body_that_is_not_declared_as_json_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for (method, address) in with_body(&domain) {
        for headers in [
            &[][..],
            &[("content-type", "")],
            &[("content-type", "text/plain")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "multipart/form-data; boundary=x")],
            &[("content-type", "text/plain; application/json")],
            &[("content-type", "application/jsonp")],
            &[("content-type", "application/json"), ("content-type", "text/plain")],
        ] {
            let body = Bytes::from_static(CREATE.as_bytes());
            let answer = domain.client.send(method.clone(), &address, headers, body).await;
            let text = answer.error(415, UNSUPPORTED_MEDIA_TYPE);
            assert!(text.contains("application/json"), "{text}");
        }
    }
    domain.client.get(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_body_declared_as_json_in_any_way_is_read(server: Server) {
    let domain = server.domain().await;
    for (index, declared) in
        ["application/json", "application/json; charset=utf-8", "Application/JSON;x"]
            .into_iter()
            .enumerate()
    {
        let body = CREATE.replace('b', &format!("p{index}"));
        let (address, headers) = (domain.secret(""), [("content-type", declared)]);
        domain.client.send(Method::POST, &address, &headers, body.into()).await.ok();
    }
}

/// What the largest data needs when every character of it is escaped, and room for the rest.
const CAP: usize = 512 * 1024;

async fn a_body_over_the_cap_is_refused(server: Server) {
    let domain = server.domain().await;
    let padded = |bytes: usize| format!("{CREATE}{}", " ".repeat(bytes - CREATE.len()));
    let address = domain.secret("");
    domain.client.post(&address, padded(CAP + 1)).await.error(413, BODY_TOO_LARGE);
    // The connection, or another one, goes on.
    domain.client.post(&address, padded(CAP)).await.ok();

    let head = |rest: &str| {
        format!(
            "POST {address} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             {rest}\r\n\r\n"
        )
    };
    // Declared alone: refused before a byte of it is sent.
    let declared = head("content-length: 99999999999");
    let tls = || domain.tls(&server);
    let answer = send_raw(&server.api_url, tls(), declared.as_bytes()).await;
    answer.error(413, BODY_TOO_LARGE);
    // Not declared: counted as it comes.
    let mut chunked = head("transfer-encoding: chunked");
    chunked += &format!("{:x}\r\n{}\r\n1\r\n ", CAP, padded(CAP));
    let answer = send_raw(&server.api_url, tls(), chunked.as_bytes()).await;
    answer.error(413, BODY_TOO_LARGE);
    let mut chunked = head("transfer-encoding: chunked");
    chunked += &format!("4\r\n{{\"pa\r\n{:x}\r\n{}\r\n0\r\n\r\n", CREATE.len() - 4, &CREATE[4..]);
    let answer = send_raw(&server.api_url, tls(), chunked.as_bytes()).await;
    // Read as a whole: the secret is there already.
    answer.error(409, CONFLICT);
}

async fn text_that_is_not_json_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let bodies: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"}",
        b"{]",
        b"{} {}",
        b"{}x",
        b"{'a':1}",
        b"{a:1}",
        b"{\"a\":1,}",
        b"{\"a\":NaN}",
        b"{\"a\":01}",
        b"{\"a\":\"\x01\"}",
        b"{\"a\":tru}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\xc3\"}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"\\udc00\":1}",
        b"{\"a\":\"\\ud800\\u0041\"}",
        b"{\"a\":\"\\x41\"}",
        b"path=a",
        b"null",
        b"[]",
        b"[{}]",
        b"1",
        b"\"text\"",
    ];
    for (method, address) in with_body(&domain) {
        for body in bodies {
            let headers = [("content-type", "application/json")];
            let body = Bytes::from_static(body);
            let answer = domain.client.send(method.clone(), &address, &headers, body).await;
            let text = answer.error(400, MALFORMED);
            assert!(text.starts_with("the body "), "{text}");
        }
    }
}

async fn the_same_key_twice_is_refused_at_any_depth(server: Server) {
    let domain = server.domain().await;
    for body in [
        r#"{"path":"a","path":"a","version":{"data":{}}}"#,
        r#"{"path":"a","version":{"data":{}},"version":{"data":{}}}"#,
        r#"{"path":"a","version":{"data":{},"data":{}}}"#,
        r#"{"path":"a","version":{"data":{"k":1,"k":1}}}"#,
        r#"{"path":"a","version":{"data":{"k":1,"\u006b":1}}}"#,
        r#"{"path":"a","version":{"data":{"k":[{"x":{"y":1,"y":2}}]}}}"#,
        r#"{"path":"a","version":{"data":{}},"metadata":{"customMetadata":{"k":"v","k":"v"}}}"#,
        r#"{"path":"a","version":{"data":{}},"unknown":{"k":1,"k":1}}"#,
    ] {
        let text = domain.client.post(&domain.secret(""), body).await.error(400, MALFORMED);
        assert!(text.contains("twice"), "{text}");
    }
}

async fn a_field_in_two_spellings_or_places_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for fields in [
        r#""casRequired":true,"cas_required":true"#,
        r#""metadata":{"casRequired":true,"cas_required":true}"#,
        r#""metadata":{"casRequired":true},"cas_required":true"#,
        r#""metadata":{"casRequired":null},"casRequired":null"#,
        r#""metadata":{"max_versions":1},"maxVersions":1"#,
        r#""metadata":{"maxVersions":1},"maxVersions":1"#,
        r#""metadata":{"custom_metadata":{}},"customMetadata":{"a":"b"}"#,
        r#""customMetadata":{},"custom_metadata":{}"#,
        r#""metadata":{"deactivateVersionAfter":"1s"},"deactivate_version_after":"1s""#,
    ] {
        let create = format!(r#"{{"path":"b","version":{{"data":{{}}}},{fields}}}"#);
        let text = domain.client.post(&domain.secret(""), create).await.error(400, MALFORMED);
        assert!(text.contains("given twice"), "{text}");
        let update = format!("{{{fields}}}");
        let text = domain.client.put(&domain.secret("a"), update).await.error(400, MALFORMED);
        assert!(text.contains("given twice"), "{text}");
    }
}

async fn absurd_nesting_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for (method, address) in with_body(&domain) {
        for body in [
            "[".repeat(100_000),
            "{\"a\":".repeat(50_000),
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            // Wide instead of deep: a small body must not become a large tree.
            format!(r#"{{"x":[{}0]}}"#, "0,".repeat(200_000)),
        ] {
            let answer = domain.client.json(method.clone(), &address, body).await;
            answer.error(400, MALFORMED);
        }
    }
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn fields_of_the_wrong_type_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for (body, named) in [
        (r#"{"path":1,"version":{"data":{}}}"#, "path"),
        (r#"{"path":["a"],"version":{"data":{}}}"#, "path"),
        (r#"{"path":"b","version":[]}"#, "version"),
        (r#"{"path":"b","version":"x"}"#, "version"),
        (r#"{"path":"b","version":{"data":{}},"metadata":[]}"#, "metadata"),
        (r#"{"path":"b","version":{"data":{}},"metadata":"x"}"#, "metadata"),
        (r#"{"path":"b","version":{"data":{}},"customMetadata":[]}"#, "customMetadata"),
        (r#"{"path":"b","version":{"data":{}},"casRequired":"true"}"#, "casRequired"),
        (
            r#"{"path":"b","version":{"data":{}},"metadata":{"max_versions":"5"}}"#,
            "metadata.maxVersions",
        ),
    ] {
        let text = domain.client.post(&domain.secret(""), body).await.error(400, MALFORMED);
        assert!(text.contains(named), "{text}");
    }
    domain.client.get(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
}

async fn fields_that_are_missing_are_named(server: Server) {
    let domain = server.domain().await;
    for (body, named) in [
        ("{}", "path"),
        (r#"{"path":null,"version":{"data":{}}}"#, "path"),
        (r#"{"version":{"data":{}}}"#, "path"),
        (r#"{"path":"a"}"#, "version.data"),
        (r#"{"path":"a","version":null}"#, "version.data"),
        (r#"{"path":"a","version":{}}"#, "version.data"),
        (r#"{"path":"a","data":{}}"#, "version.data"),
    ] {
        let text = domain.client.post(&domain.secret(""), body).await.error(400, FIELD_REQUIRED);
        assert!(text.contains(named), "{text}");
    }
}

async fn no_answer_repeats_what_was_sent(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let bodies = [
        r#"{"path":"CANARY CANARY","version":{"data":{}}}"#,
        r#"{"path":"CANARY%2F","version":{"data":{}}}"#,
        r#"{"path":"b","version":{"data":"CANARY"}}"#,
        r#"{"path":"b","version":{"data":["CANARY"]}}"#,
        r#"{"path":"b","version":"CANARY"}"#,
        r#"{"path":"b","version":{"data":{"CANARY":1,"CANARY":2}}}"#,
        r#"{"path":"b","version":{"data":{"k":CANARY}}}"#,
        r#"{"path":"b","version":{"data":{"k":"CANARY"#,
        r#"{"path":"b","version":{"data":{"k":"CANARY\ud800"}}}"#,
        r#"{"path":["CANARY"],"version":{"data":{}}}"#,
        r#"{"casRequired":"CANARY","version":{"data":{}}}"#,
        r#"{"maxVersions":"CANARY","version":{"data":{}}}"#,
        r#"{"deactivateVersionAfter":"CANARY","version":{"data":{}}}"#,
        r#"{"metadata":"CANARY","version":{"data":{}}}"#,
        r#"{"customMetadata":{"CANARY KEY":"CANARY"},"version":{"data":{}}}"#,
        r#"{"customMetadata":{"k":"CANARY CANARY"},"version":{"data":{}}}"#,
        r#"{"customMetadata":"CANARY","version":{"data":{}}}"#,
        r#"{"state":"CANARY"}"#,
        r#"{"state":["CANARY"]}"#,
        r#"{"data":"CANARY"}"#,
        r#"CANARY"#,
        r#"["CANARY"]"#,
        r#""CANARY""#,
    ];
    for (method, address) in with_body(&domain) {
        for body in bodies {
            // Some of these are right in one place; what is right is not repeated either.
            let answer = domain.client.json(method.clone(), &address, body).await;
            assert!(!answer.text().contains("CANARY"), "{method} {address} {}", answer.text());
        }
    }
    for address in [
        "CANARY%20CANARY",
        "CANARY",
        "a/version/CANARY",
        "a?version=CANARY",
        "a?includeData=CANARY",
        "CANARY//x",
    ] {
        let answer = domain.client.get(&domain.secret(address)).await;
        assert!(answer.status >= 400 && !answer.text().contains("CANARY"), "{}", answer.text());
    }
    let put = domain.client.put(&domain.secret("a?cas=CANARY"), r#"{"maxVersions":1}"#).await;
    assert!(!put.text().contains("CANARY"), "{}", put.text());
    for name in ["x-pagination-size", "x-pagination-cursor"] {
        let list = domain.client.page(&domain.secret(""), &[(name, "CANARY!")]).await;
        assert!(list.status == 400 && !list.text().contains("CANARY"), "{}", list.text());
    }
}

async fn reading_and_deleting_ignore_headers_of_a_body(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let address = domain.secret("a");
    for declared in ["application/json", "text/plain"] {
        let headers = [("content-type", declared)];
        domain.client.send(Method::GET, &address, &headers, Bytes::new()).await.ok();
    }
    let headers = [("content-type", "application/json")];
    domain.client.send(Method::DELETE, &address, &headers, Bytes::new()).await.gone();
}

async fn a_body_that_is_encoded_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for (method, address) in with_body(&domain) {
        for coding in ["gzip", "br", "identity, gzip", "GZIP"] {
            let headers = [("content-type", "application/json"), ("content-encoding", coding)];
            let body = Bytes::from_static(CREATE.as_bytes());
            let answer = domain.client.send(method.clone(), &address, &headers, body).await;
            let text = answer.error(415, UNSUPPORTED_MEDIA_TYPE);
            assert!(text.contains("Content-Encoding"), "{text}");
        }
    }
    domain.client.get(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
    let headers = [("content-type", "application/json"), ("content-encoding", "identity")];
    domain.client.send(Method::POST, &domain.secret(""), &headers, CREATE.into()).await.ok();
}

/// Who names a version, and gets the whole secret deleted, learns it from no answer.
async fn a_deletion_with_a_query_or_a_body_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for query in ["version=1", "cas=3", "x", "="] {
        let address = domain.secret(&format!("a?{query}"));
        let text = domain.client.delete(&address).await.error(400, MALFORMED);
        assert!(text.contains("no query parameters"), "{text}");
        assert!(text.contains("all its versions"), "{text}");
    }
    let address = domain.secret("a");
    for body in [r#"{"versions":[1]}"#, "{}", " "] {
        let text = domain.client.json(Method::DELETE, &address, body).await.error(400, MALFORMED);
        assert!(text.contains("no body"), "{text}");
    }
    let delete = async |rest: &str| {
        let request = format!("DELETE {address} HTTP/1.1\r\nhost: localhost\r\n{rest}");
        send_raw(&server.api_url, domain.tls(&server), request.as_bytes()).await
    };
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    delete(&format!("{chunked}1\r\n \r\n0\r\n\r\n")).await.error(400, MALFORMED);
    assert_eq!(domain.versions("a").await, [1]);
    // Announced, and empty; and a question mark alone.
    for rest in [format!("{chunked}0\r\n\r\n"), "content-length: 0\r\n\r\n".to_owned()] {
        delete(&rest).await.gone();
        domain.create("a", "{}").await;
    }
    domain.client.delete(&domain.secret("a?")).await.gone();
}

async fn a_deletion_waits_for_the_end_of_a_body_and_asks_again_who_sends_it(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 365).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let tls = || server.tls(Some((&issued.credential.certificate_pem, &key)));
    let head = format!(
        "DELETE {} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        domain.secret("a")
    );
    let begin = async || {
        let mut connection = RawConnection::open(&server.api_url, tls()).await;
        connection.send(head.as_bytes()).await;
        tokio::time::sleep(PAUSE).await;
        connection
    };
    let mut connection = begin().await;
    domain.client.get(&domain.secret("a")).await.ok();
    connection.send(b"0\r\n\r\n").await;
    connection.answer().await.gone();
    domain.create("a", "{}").await;
    let mut connection = begin().await;
    assert!(server.credentials.revoke(issued.credential.id).await.expect("a store"));
    connection.send(b"0\r\n\r\n").await;
    connection.answer().await.error(401, UNAUTHENTICATED);
    domain.client.get(&domain.secret("a")).await.ok();
}

/// In this time, a server has looked at what has come so far.
const PAUSE: Duration = Duration::from_millis(500);
