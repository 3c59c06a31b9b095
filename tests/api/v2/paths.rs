//! Secret paths: one secret has one name, however it is written in the URL.

use serde_json::json;

use crate::{
    codes::*,
    support::{Domain, Server, both_engines, send_raw},
};

both_engines!(
    a_path_with_raw_and_with_encoded_slashes_is_the_same_secret,
    a_path_may_hold_every_character_of_the_set,
    paths_that_could_be_read_in_two_ways_are_refused,
    raw_bytes_that_no_client_sends_are_refused,
    the_same_paths_are_refused_in_a_body,
    a_path_has_at_most_255_characters,
    a_secret_below_a_segment_named_version_is_told_from_a_version,
    a_slash_at_the_end_of_the_collection_is_the_collection,
    upper_and_lower_case_are_two_names,
);

async fn a_path_with_raw_and_with_encoded_slashes_is_the_same_secret(server: Server) {
    let domain = server.domain().await;
    domain.create("prod/database/MySQL", r#"{"n":1}"#).await;
    let spellings = [
        "prod/database/MySQL",
        "prod%2Fdatabase%2FMySQL",
        "prod%2fdatabase%2fMySQL",
        "prod%2Fdatabase/MySQL",
        "%70rod/datab%61se/My%53QL",
    ];
    let expected = domain.client.get(&domain.secret(spellings[0])).await.ok();
    assert_eq!(expected["path"], "prod/database/MySQL");
    for (index, path) in spellings.into_iter().enumerate() {
        let read = domain.client.get(&domain.secret(path)).await.ok();
        assert_eq!(read["version"]["createdAt"], expected["version"]["createdAt"]);
        let version = domain.add_version(path).await;
        assert_eq!(version["id"], index + 2);
        let address = domain.secret(&format!("{path}/version/{}", index + 2));
        domain.client.get(&address).await.ok();
        domain.client.put(&domain.secret(path), r#"{"maxVersions":9}"#).await.ok();
        assert_eq!(domain.versions(path).await.len(), index + 2);
    }
    let list = domain.client.get(&domain.secret("")).await.ok();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    domain.client.delete(&domain.secret("prod%2fdatabase/MySQL")).await.gone();
    domain.client.get(&domain.secret(spellings[0])).await.error(404, SECRET_NOT_FOUND);
}

async fn a_path_may_hold_every_character_of_the_set(server: Server) {
    let domain = server.domain().await;
    for (path, encoded) in [
        ("a_B.9:x=y@z-w", "a_B.9%3Ax%3Dy%40z-w"),
        ("...", "..."),
        ("a/..b/c..", "a%2F..b%2Fc.."),
        (".hidden/-x", ".hidden%2F-x"),
        ("=/:/@", "%3D%2F%3A%2F%40"),
        ("0", "0"),
    ] {
        domain.create(path, "{}").await;
        for spelling in [path, encoded] {
            let read = domain.client.get(&domain.secret(spelling)).await.ok();
            assert_eq!(read["path"], path);
            let urn = read["metadata"]["urn"].as_str().expect("a URN");
            assert_eq!(urn.split_once("/secret/").map(|(_, path)| path), Some(encoded));
        }
    }
}

/// Tries a path in every address that has one.
async fn check_refused(domain: &Domain, path: &str, code: i64) {
    let secret = domain.secret(path);
    domain.client.get(&secret).await.error(400, code);
    domain.client.put(&secret, r#"{"version":{"data":{}}}"#).await.error(400, code);
    domain.client.delete(&secret).await.error(400, code);
    let versions = domain.secret(&format!("{path}/version"));
    domain.client.get(&versions).await.error(400, code);
    domain.client.post(&versions, r#"{"data":{}}"#).await.error(400, code);
    domain.client.put(&versions, r#"{"data":{}}"#).await.error(400, code);
    let version = domain.secret(&format!("{path}/version/1"));
    domain.client.get(&version).await.error(400, code);
    domain.client.put(&version, r#"{"state":"active"}"#).await.error(400, code);
}

async fn paths_that_could_be_read_in_two_ways_are_refused(server: Server) {
    let domain = server.domain().await;
    for path in ["a", "b", "x/a", "secret"] {
        domain.create(path, "{}").await;
    }
    for path in [
        "a/",
        "a%2F",
        "/a",
        "%2Fa",
        "//a",
        "a//b",
        "a%2F%2Fb",
        "a/%2Fb",
        "x//a",
        ".",
        "..",
        "%2E",
        "%2e%2e",
        "./a",
        "x/../a",
        "x/%2e%2e/a",
        "x%2F..%2Fa",
        "x/./a",
        "a/.",
        "a/..",
        "../secret/a",
        "..%2Fsecret%2Fa",
        "x%252Fa",
        "%2561",
        "a%25",
        "a%00",
        "%00",
        "a%0A",
        "a%0D%0Ab",
        "a%7F",
        "a%2G",
        "a%",
        "a%2",
        "a%20",
        "a+b",
        "%C3%A9",
        "a%E2%80%AEb",
        "a%5Cb",
        "a;b",
        "a*",
        "a~b",
        "a%3Fb",
        "a%23b",
        "%EF%BC%8F",
    ] {
        check_refused(&domain, path, INVALID_PATH).await;
    }
    // Not UTF-8 once it is decoded; overlong forms of `/` and `.` are not either.
    for path in ["%FF", "a%C3", "a%C0%AFb", "%C0%AE%C0%AE", "%ED%A0%80"] {
        check_refused(&domain, path, MALFORMED).await;
    }
    let list = domain.client.get(&domain.secret("")).await.ok();
    assert_eq!(list.as_array().map(Vec::len), Some(4));
}

async fn raw_bytes_that_no_client_sends_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for path in [&b"\xc3\xa9"[..], b"a\xff", b"a\\b", b"a\"b", b"{a}", b"a|b", b"a^b", b"a`b"] {
        let mut request = format!("GET {}", domain.secret("")).into_bytes();
        request.extend_from_slice(path);
        request.extend_from_slice(b" HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = send_raw(&server.api_url, domain.tls(&server), &request).await;
        assert_eq!(answer.status, 400, "{path:?} {}", answer.text());
    }
}

async fn the_same_paths_are_refused_in_a_body(server: Server) {
    let domain = server.domain().await;
    for path in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/./b",
        "a/../b",
        "../a",
        "a/..",
        "a%2Fb",
        "a%252Fb",
        "%00",
        "a%2G",
        "a%",
        "a\0",
        "a\n",
        "a\u{7f}",
        "a b",
        " a",
        "a ",
        "é",
        "a\u{202e}b",
        "a\\b",
        "a+b",
        "a~b",
        "a?b",
        "a#b",
        "a*b",
        "a;b",
        "a／b",
    ] {
        let body = json!({"path": path, "version": {"data": {}}});
        for address in ["", "?x"] {
            let post = domain.client.post(&domain.secret(address), &body).await;
            let text = post.error(400, INVALID_PATH);
            assert!(text.starts_with("path "), "{text}");
        }
    }
    assert_eq!(domain.client.get(&domain.secret("")).await.ok(), json!([]));
}

async fn a_path_has_at_most_255_characters(server: Server) {
    let domain = server.domain().await;
    let longest = format!("{}/{}", "x".repeat(127), "y".repeat(127));
    domain.create(&longest, "{}").await;
    let encoded =
        |path: &str| -> String { path.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    for spelling in [longest.clone(), encoded(&longest)] {
        assert_eq!(domain.client.get(&domain.secret(&spelling)).await.ok()["path"], longest);
    }
    for too_long in ["x".repeat(256), "x".repeat(5_000), encoded(&"x".repeat(256))] {
        check_refused(&domain, &too_long, INVALID_PATH).await;
    }
    let body = json!({"path": "x".repeat(256), "version": {"data": {}}});
    domain.client.post(&domain.secret(""), body).await.error(400, INVALID_PATH);
}

async fn a_secret_below_a_segment_named_version_is_told_from_a_version(server: Server) {
    let domain = server.domain().await;
    for path in ["foo", "foo/version", "foo/version/1", "version", "version/2", "version/version"] {
        let made = domain.create(path, "{}").await;
        // Who makes one that raw slashes do not lead to is told how to write it.
        let warning = made["warnings"][0].as_str();
        let is_misread = !["foo", "version", "version/2"].contains(&path);
        assert_eq!(warning.is_some(), is_misread, "{made}");
        assert!(warning.is_none_or(|warning| warning.contains("%2F")), "{made}");
    }
    // Suffixes are told apart before anything is decoded.
    for (address, path) in [
        ("foo", "foo"),
        ("foo%2Fversion", "foo/version"),
        ("foo%2Fversion%2F1", "foo/version/1"),
        ("foo/version%2F1", "foo/version/1"),
        ("version", "version"),
        ("version%2F2", "version/2"),
        ("version/2", "version/2"),
        ("version%2Fversion", "version/version"),
    ] {
        let read = domain.client.get(&domain.secret(address)).await.ok();
        assert_eq!(read["path"], path, "{address}");
    }
    for list in ["foo/version", "foo%2Fversion/version", "version/version", "foo/version/version"] {
        let list = domain.client.get(&domain.secret(list)).await.ok();
        assert_eq!(list[0]["id"], 1);
    }
    for version in ["foo/version/1", "foo%2Fversion/version/1", "version/version/1"] {
        let version = domain.client.get(&domain.secret(version)).await.ok();
        assert_eq!(version["id"], 1);
    }
    // `foo/version/x` would be a secret's own path; the answer says how to write it.
    let text = domain.client.get(&domain.secret("foo/version/x")).await.error(400, INVALID_VERSION);
    assert!(text.contains("%2F"), "{text}");
    domain.client.get(&domain.secret("foo/version/")).await.error(400, INVALID_PATH);
    domain.client.delete(&domain.secret("foo/version")).await.error(405, METHOD_NOT_ALLOWED);
    domain.client.delete(&domain.secret("foo%2Fversion")).await.gone();
    domain.client.get(&domain.secret("foo")).await.ok();
}

async fn a_slash_at_the_end_of_the_collection_is_the_collection(server: Server) {
    let domain = server.domain().await;
    let body = |path: &str| format!(r#"{{"path":"{path}","version":{{"data":{{}}}}}}"#);
    domain.client.post(&format!("{}/secret/", domain.base), body("a")).await.ok();
    domain.client.post(&format!("{}/secret", domain.base), body("b")).await.ok();
    let with = domain.client.get(&format!("{}/secret/", domain.base)).await.ok();
    let without = domain.client.get(&format!("{}/secret", domain.base)).await.ok();
    assert_eq!(with, without);
    assert_eq!(with.as_array().map(Vec::len), Some(2));
    let config = format!("{}/secretConfig/", domain.base);
    domain.client.get(&config).await.error(404, ROUTE_NOT_FOUND);
}

async fn upper_and_lower_case_are_two_names(server: Server) {
    let domain = server.domain().await;
    domain.create("Db", r#"{"n":1}"#).await;
    domain.client.get(&domain.secret("db")).await.error(404, SECRET_NOT_FOUND);
    domain.create("db", r#"{"n":2}"#).await;
    domain.client.delete(&domain.secret("DB")).await.error(404, SECRET_NOT_FOUND);
    domain.client.delete(&domain.secret("db")).await.gone();
    let read = domain.client.get(&domain.secret("Db?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 1}));
}
