//! `/secret/data/{path}` and `/secret/subkeys/{path}`

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Answer, Domain, Server, both_engines},
    tokens::root_token,
};

both_engines!(
    a_write_makes_the_secret_and_then_versions,
    what_was_written_is_read_digit_by_digit,
    raw_and_encoded_paths_are_one_secret,
    cas_is_compared_and_required_as_vault_does,
    a_cas_beside_data_is_taken_where_it_asks_for_nothing,
    answers_have_the_lease_that_clients_of_vault_read,
    a_merge_patch_makes_a_version_of_the_current_one,
    a_patch_needs_a_version_that_is_open,
    a_number_that_no_version_can_have_is_not_found_where_there_is_a_secret,
    what_is_closed_is_a_404_with_its_metadata,
    a_planned_deletion_is_shown_and_comes,
    subkeys_are_shown_to_the_depth_that_is_asked_for,
    what_is_not_there_is_a_404_without_data,
    bodies_are_read_strictly,
    a_body_says_what_it_is_or_comes_from_a_client_of_kv2,
    a_wrapped_answer_is_refused_and_not_unwrapped,
    methods_that_do_not_exist_are_refused,
);

fn metadata(now: &str, version: u32) -> Value {
    json!({
        "created_time": now,
        "custom_metadata": null,
        "deletion_time": "",
        "destroyed": false,
        "version": version,
    })
}

/// The present as KV2 writes it.
fn now(server: &Server) -> String {
    use okmsd::domain::Clock;
    let now = server.clock.now().to_rfc3339_nanos();
    let (_, fraction) = now.split_once('.').expect("a fraction");
    assert_eq!(fraction.len(), "123456789Z".len(), "{now}");
    now
}

async fn a_write_makes_the_secret_and_then_versions(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("data/team/a");
    for (version, method) in [(1, Method::PUT), (2, Method::POST), (3, Method::PUT)] {
        server.clock.advance(Duration::from_millis(1_234));
        let body = json!({"data": {"n": version}, "options": {}});
        let written = domain.client.json(method, &address, body).await;
        assert_eq!(data(&written), metadata(&now(&server), version));
    }
    let read = data(&domain.kv_get("data/team/a").await);
    assert_eq!(read, json!({"data": {"n": 3}, "metadata": metadata(&now(&server), 3)}));
    for query in ["?version=0", "?version=3"] {
        assert_eq!(data(&domain.kv_get(&format!("data/team/a{query}")).await), read);
    }
    let first = data(&domain.kv_get("data/team/a?version=1").await);
    assert_eq!(first["data"], json!({"n": 1}));
    assert_eq!(first["metadata"]["version"], 1);
}

async fn what_was_written_is_read_digit_by_digit(server: Server) {
    let domain = server.domain().await;
    let written =
        r#"{"z":1.10,"a":100000000000000000000.0000000001,"e":1E400,"u":"é\u0000","n":null}"#;
    domain.kv_put("a", written).await.ok();
    assert!(domain.kv_get("data/a").await.text().contains(written));
    // A patch leaves alone what it does not name.
    let body = r#"{"data":{"new":2.50}}"#;
    domain.client.json(Method::PATCH, &domain.kv("data/a"), body).await.ok();
    let merged = written.replace(r#""n":null}"#, r#""n":null,"new":2.50}"#);
    let text = domain.kv_get("data/a").await.text();
    assert!(text.contains(&merged), "{text}");
}

async fn raw_and_encoded_paths_are_one_secret(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("team/b%2Fc", r#"{"k":"v"}"#).await.ok();
    for path in ["team/b/c", "team%2Fb%2Fc", "team%2fb/c"] {
        let read = data(&domain.kv_get(&format!("data/{path}")).await);
        assert_eq!(read["data"], json!({"k": "v"}), "{path}");
    }
    for path in ["a%252Fb", "a//b", "/a", "a/", "a/../b", "a%20b", "%C3%A9"] {
        let read = domain.kv_get(&format!("data/{path}")).await;
        assert_eq!(read.status, 400, "{path} {}", read.text());
        read.error(400, INVALID_PATH);
    }
}

async fn cas_is_compared_and_required_as_vault_does(server: Server) {
    let domain = server.domain().await;
    let put = async |path: &str, cas: Value| {
        let body = json!({"data": {"k": "v"}, "options": {"cas": cas}});
        domain.client.put(&domain.kv(&format!("data/{path}")), body).await
    };
    put("a", json!(1)).await.error(400, CAS_MISMATCH);
    domain.kv_get("data/a").await.error(404, SECRET_NOT_FOUND);
    put("a", json!(0)).await.ok();
    put("a", json!(0)).await.error(400, CAS_MISMATCH);
    put("a", json!("1")).await.ok();
    put("a", Value::Null).await.ok();
    assert_eq!(data(&put("a", json!(3)).await)["version"], 4);
    // Who reads again and tries again on a mismatch would never come to an end.
    for refused in [json!(-1), json!("x"), json!(1.5), json!(24_001), json!(true)] {
        let text = put("a", refused).await.error(400, MALFORMED);
        assert!(text.contains("options.cas"), "{text}");
    }
    domain.client.put(&domain.kv("config"), r#"{"cas_required":true}"#).await.gone();
    for path in ["a", "new"] {
        domain.kv_put(path, "{}").await.error(400, CAS_MISMATCH);
        let patch = r#"{"data":{}}"#;
        let address = domain.kv(&format!("data/{path}"));
        let patched = domain.client.json(Method::PATCH, &address, patch);
        match path {
            "a" => patched.await.error(400, CAS_MISMATCH),
            _ => patched.await.error(404, SECRET_NOT_FOUND),
        };
    }
    put("new", json!(0)).await.ok();
    let patch = json!({"data": {"x": 1}, "options": {"cas": 4}});
    let patched = domain.client.json(Method::PATCH, &domain.kv("data/a"), patch).await;
    assert_eq!(data(&patched)["version"], 5);
}

/// As Terraform's provider sends it.
async fn a_cas_beside_data_is_taken_where_it_asks_for_nothing(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("data/a");
    let body = json!({"cas": 0, "data": {"k": "v"}, "options": {}});
    for method in [Method::PUT, Method::POST] {
        domain.client.json(method, &address, &body).await.ok();
    }
    // Nothing is written of one that its sender relies on, not even if it is right.
    for cas in [json!(1), json!(2), json!("0"), json!("CANARY"), json!({})] {
        let written = domain.client.put(&address, json!({"cas": cas, "data": {}})).await;
        let text = written.error(400, MALFORMED);
        assert!(text.contains("cas") && text.contains("options"), "{text}");
        assert!(!written.text().contains("CANARY"), "{}", written.text());
    }
    assert_eq!(domain.versions("a").await, [1, 2]);
    // The one of the options counts.
    let body = json!({"cas": 0, "data": {}, "options": {"cas": 1}});
    domain.client.put(&address, body).await.error(400, CAS_MISMATCH);
    domain.client.put(&address, json!({"cas": 0, "data": {}, "options": {"cas": 2}})).await.ok();
    domain.client.put(&domain.kv("metadata/a"), r#"{"cas_required":true}"#).await.gone();
    let body = json!({"cas": 0, "data": {}});
    domain.client.put(&address, body).await.error(400, CAS_MISMATCH);
    let patch = json!({"cas": 0, "data": {}, "options": {"cas": 3}});
    let patched = domain.client.json(Method::PATCH, &address, patch).await;
    assert!(patched.error(400, MALFORMED).contains("cas"));
    let other = json!({"Cas": 0, "data": {}, "options": {"cas": 3}});
    domain.client.put(&address, other).await.error(400, MALFORMED);
}

async fn answers_have_the_lease_that_clients_of_vault_read(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("config"), r#"{"cas_required":true}"#).await.gone();
    let body = json!({"data": {}, "options": {"cas": 0}});
    let written = domain.client.put(&domain.kv("data/a"), body).await;
    let warned = domain.client.put(&domain.kv("metadata/a"), r#"{"cas_required":false}"#).await;
    let mut answers = vec![written, warned];
    for below in ["data/a", "subkeys/a", "metadata/a", "metadata?list=true", "config"] {
        answers.push(domain.kv_get(below).await);
    }
    let of_vault = format!("/api/{}/v1", domain.okms_id);
    answers.push(domain.client.get(&format!("{of_vault}/auth/token/lookup-self")).await);
    answers.push(domain.client.post(&format!("{of_vault}/auth/cert/login"), "").await);
    answers.push(domain.client.get(&format!("{of_vault}/sys/mounts")).await);
    for answer in answers {
        let answer = answer.ok();
        let lease = ["lease_id", "renewable", "lease_duration"].map(|name| &answer[name]);
        assert_eq!(lease, [&json!(""), &json!(false), &json!(0)], "{answer}");
    }
    // An error has its own form.
    domain.kv_get("data/b").await.error(404, SECRET_NOT_FOUND);
}

async fn a_merge_patch_makes_a_version_of_the_current_one(server: Server) {
    let domain = server.domain().await;
    let before = r#"{"a":"b","c":{"d":"e","f":"g"},"list":[1,2],"null":null}"#;
    domain.kv_put("a", before).await.ok();
    let patch = r#"{"data":{"a":"z","c":{"f":null},"list":[3],"new":{"x":null,"y":1}}}"#;
    for content_type in ["application/merge-patch+json", "application/json"] {
        let headers = [("content-type", content_type)];
        let address = domain.kv("data/a");
        let patched =
            domain.client.send(Method::PATCH, &address, &headers, Bytes::from(patch)).await;
        data(&patched);
        let read = data(&domain.kv_get("data/a").await);
        let expected =
            json!({"a": "z", "c": {"d": "e"}, "list": [3], "null": null, "new": {"y": 1}});
        assert_eq!(read["data"], expected);
    }
    assert_eq!(domain.versions("a").await, [1, 2, 3]);
    let old = data(&domain.kv_get("data/a?version=1").await);
    assert_eq!(old["data"], serde_json::from_str::<Value>(before).unwrap());
    // What comes out keeps the bounds of data.
    let large = json!({"data": {"large": "x".repeat(65_000)}});
    domain.client.json(Method::PATCH, &domain.kv("data/a"), &large).await.ok();
    let more = json!({"data": {"more": "x".repeat(1_000)}});
    let refused = domain.client.json(Method::PATCH, &domain.kv("data/a"), more).await;
    refused.error(400, DATA_TOO_LARGE);
    for no_object in ["null", "[]", "1", "\"x\""] {
        let body = format!(r#"{{"data":{no_object}}}"#);
        let refused = domain.client.json(Method::PATCH, &domain.kv("data/a"), body).await;
        refused.error(400, INVALID_DATA);
    }
    assert_eq!(domain.versions("a").await, [1, 2, 3, 4]);
}

async fn a_patch_needs_a_version_that_is_open(server: Server) {
    let domain = server.domain().await;
    let patch = async |path: &str| {
        let address = domain.kv(&format!("data/{path}"));
        domain.client.json(Method::PATCH, &address, r#"{"data":{"k":1}}"#).await
    };
    patch("absent").await.error(404, SECRET_NOT_FOUND);
    domain.client.put(&domain.kv("metadata/empty"), r#"{"max_versions":3}"#).await.gone();
    patch("empty").await.error(404, VERSION_NOT_FOUND);
    domain.kv_put("a", "{}").await.ok();
    domain.client.delete(&domain.kv("data/a")).await.gone();
    let refused = closed(&patch("a").await);
    assert_eq!(refused["version"], 1);
    assert_ne!(refused["deletion_time"], "");
    assert_eq!(domain.versions("a").await, [1]);
}

/// Checks that this is the error of a closed version, and gives what stands in its `data`.
#[track_caller]
fn closed(answer: &Answer) -> Value {
    assert_eq!(answer.status, 404, "{}", answer.text());
    let value = answer.value();
    assert_eq!(value["error_code"], VERSION_CLOSED, "{value}");
    assert!(value["error_id"].is_string() && value["errors"][0].is_string(), "{value}");
    assert_eq!(value["request_id"].as_str(), answer.header("x-request-id"));
    value["data"].clone()
}

async fn what_is_closed_is_a_404_with_its_metadata(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", r#"{"password":"CANARY"}"#).await.ok();
    domain.client.put(&domain.kv("metadata/a"), r#"{"custom_metadata":{"team":"x"}}"#).await.gone();
    let created = now(&server);
    server.clock.advance(Duration::from_secs(60));
    domain.client.delete(&domain.kv("data/a")).await.gone();
    let mut expected = json!({
        "created_time": created,
        "custom_metadata": {"team": "x"},
        "deletion_time": now(&server),
        "destroyed": false,
        "version": 1,
    });
    let check = async |domain: &Domain, expected: &Value| {
        for query in ["", "?version=1"] {
            let read = domain.kv_get(&format!("data/a{query}")).await;
            assert!(!read.text().contains("CANARY"));
            assert_eq!(closed(&read), json!({"data": null, "metadata": expected}));
            let read = closed(&domain.kv_get(&format!("subkeys/a{query}")).await);
            assert_eq!(read, json!({"metadata": expected, "subkeys": null}));
        }
        let body = r#"{"data":{}}"#;
        let patched = domain.client.json(Method::PATCH, &domain.kv("data/a"), body).await;
        assert_eq!(closed(&patched), *expected);
    };
    check(&domain, &expected).await;
    domain.client.put(&domain.kv("destroy/a"), r#"{"versions":[1]}"#).await.gone();
    expected["destroyed"] = json!(true);
    check(&domain, &expected).await;
}

async fn a_planned_deletion_is_shown_and_comes(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("config"), r#"{"delete_version_after":"1h"}"#).await.gone();
    let written = data(&domain.kv_put("a", "{}").await);
    server.clock.advance(Duration::from_secs(3_599));
    let read = data(&domain.kv_get("data/a").await);
    assert_eq!(read["metadata"]["deletion_time"], written["deletion_time"]);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(written["deletion_time"].as_str(), Some(now(&server).as_str()));
    let refused = closed(&domain.kv_get("data/a").await);
    assert_eq!(refused["metadata"]["deletion_time"], written["deletion_time"]);
}

async fn subkeys_are_shown_to_the_depth_that_is_asked_for(server: Server) {
    let domain = server.domain().await;
    let written = r#"{"a":{"b":{"c":"CANARY"}},"d":["CANARY"],"e":{},"f":1}"#;
    domain.kv_put("team/a", written).await.ok();
    let all = json!({"a": {"b": {"c": null}}, "d": null, "e": null, "f": null});
    for (query, expected) in [
        ("", all.clone()),
        ("?depth=0", all.clone()),
        ("?depth=1", json!({"a": null, "d": null, "e": null, "f": null})),
        ("?depth=2", json!({"a": {"b": null}, "d": null, "e": null, "f": null})),
        ("?depth=9&version=1", all),
    ] {
        let read = domain.kv_get(&format!("subkeys/team/a{query}")).await;
        assert!(!read.text().contains("CANARY"), "{}", read.text());
        let read = data(&read);
        assert_eq!(read["subkeys"], expected, "{query}");
        assert_eq!(read["metadata"], metadata(&now(&server), 1));
    }
    domain.kv_put("empty", "{}").await.ok();
    assert_eq!(data(&domain.kv_get("subkeys/empty").await)["subkeys"], json!({}));
    for query in ["?depth=-1", "?depth=x", "?depth=1&depth=2", "?version=x"] {
        assert_eq!(domain.kv_get(&format!("subkeys/team/a{query}")).await.status, 400, "{query}");
    }
}

async fn what_is_not_there_is_a_404_without_data(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    for below in ["data/b", "subkeys/b", "metadata/b", "data/b?version=1"] {
        domain.kv_get(below).await.error(404, SECRET_NOT_FOUND);
    }
    for version in ["2", "24000", "24001", "4294967295"] {
        let read = domain.kv_get(&format!("data/a?version={version}")).await;
        read.error(404, VERSION_NOT_FOUND);
    }
    for version in ["-1", "x", "1.0", "4294967296"] {
        let read = domain.kv_get(&format!("data/a?version={version}")).await;
        read.error(400, INVALID_VERSION);
    }
    domain.client.put(&domain.kv("metadata/empty"), r#"{"cas_required":true}"#).await.gone();
    for below in ["data/empty", "subkeys/empty", "data/empty?version=1"] {
        domain.kv_get(below).await.error(404, VERSION_NOT_FOUND);
    }
}

async fn bodies_are_read_strictly(server: Server) {
    let domain = server.domain().await;
    for (body, code) in [
        ("{}", FIELD_REQUIRED),
        (r#"{"options":{}}"#, FIELD_REQUIRED),
        (r#"{"data":null}"#, INVALID_DATA),
        (r#"{"data":[]}"#, INVALID_DATA),
        (r#"{"data":"CANARY"}"#, INVALID_DATA),
        (r#"{"data":{},"options":[]}"#, MALFORMED),
        (r#"{"data":{},"dta":"CANARY"}"#, MALFORMED),
        (r#"{"password":"CANARY"}"#, FIELD_REQUIRED),
        (r#"{"data":{},"data":{}}"#, MALFORMED),
        ("CANARY", MALFORMED),
        ("", MALFORMED),
    ] {
        let text = domain.client.put(&domain.kv("data/a"), body).await.error(400, code);
        assert!(!text.contains("CANARY"), "{body}: {text}");
    }
    // Vault's own clients send more options than there are here.
    let body = r#"{"data":{},"options":{"version":"2","method":"x"}}"#;
    domain.client.put(&domain.kv("data/a"), body).await.ok();
    assert_eq!(domain.versions("a").await, [1]);
}

async fn a_body_says_what_it_is_or_comes_from_a_client_of_kv2(server: Server) {
    let domain = server.domain().await;
    let put = async |headers: &[(&str, &str)]| {
        let body = Bytes::from(r#"{"data":{}}"#);
        domain.client.send(Method::PUT, &domain.kv("data/a"), headers, body).await
    };
    let form = ("content-type", "application/x-www-form-urlencoded");
    let text = put(&[]).await.error(415, UNSUPPORTED_MEDIA_TYPE);
    assert!(text.contains("application/json") && text.contains("merge-patch+json"), "{text}");
    put(&[form]).await.error(415, UNSUPPORTED_MEDIA_TYPE);
    put(&[("content-type", "text/plain")]).await.error(415, UNSUPPORTED_MEDIA_TYPE);
    // A browser may add this one by itself; it is no token.
    put(&[form, ("authorization", "Basic dTpw")]).await.error(401, UNAUTHENTICATED);
    let client = ("x-vault-request", "true");
    put(&[client]).await.ok();
    put(&[client, form]).await.ok();
    let token = root_token(&server, domain.okms_id).await;
    let bearer = format!("Bearer {}", token.text.expose());
    for token in [("x-vault-token", token.text.expose()), ("authorization", bearer.as_str())] {
        put(&[token]).await.ok();
        put(&[token, form]).await.ok();
    }
    put(&[("content-type", "application/json; charset=utf-8")]).await.ok();
    put(&[client, ("content-encoding", "identity")]).await.ok();
    let text = put(&[client, ("content-encoding", "gzip")]).await;
    let text = text.error(415, UNSUPPORTED_MEDIA_TYPE);
    assert!(text.contains("Content-Encoding"), "{text}");
    let site = ("sec-fetch-site", "cross-site");
    put(&[client, site]).await.error(403, OTHER_SITE);
}

async fn a_wrapped_answer_is_refused_and_not_unwrapped(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", r#"{"password":"CANARY"}"#).await.ok();
    let wrapped = [("x-vault-wrap-ttl", "60s")];
    let read = domain.client.send(Method::GET, &domain.kv("data/a"), &wrapped, Bytes::new()).await;
    assert!(read.error(400, MALFORMED).contains("X-Vault-Wrap-TTL"));
    assert!(!read.text().contains("CANARY"));
    // Who asks is found out first, and nobody else's answers are wrapped.
    let stranger = server.client(None);
    for (client, target, status) in [
        (&stranger, domain.kv("data/a"), 401),
        (&domain.client, domain.kv("delete/a"), 400),
        (&domain.client, domain.kv("nothing/a"), 404),
        (&domain.client, domain.secret("a"), 200),
    ] {
        let answer = client.send(Method::GET, &target, &wrapped, Bytes::new()).await;
        assert_eq!(answer.status, status, "{target}");
    }
}

async fn methods_that_do_not_exist_are_refused(server: Server) {
    let domain = server.domain().await;
    let list: Method = "LIST".parse().unwrap();
    for (method, below) in [
        (list.clone(), "data/a"),
        (list.clone(), "subkeys/a"),
        (list, "config"),
        (Method::DELETE, "config"),
        (Method::GET, "destroy/a"),
        (Method::DELETE, "delete/a"),
        (Method::PATCH, "undelete/a"),
    ] {
        let answer = domain.client.json(method.clone(), &domain.kv(below), "{}").await;
        answer.error(405, METHOD_NOT_ALLOWED);
    }
    for below in ["", "data", "data/", "dta/a", "undelete", "config/a"] {
        domain.kv_get(below).await.error(404, ROUTE_NOT_FOUND);
    }
}

async fn a_number_that_no_version_can_have_is_not_found_where_there_is_a_secret(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("team/a", "{}").await.ok();
    for operation in ["data", "subkeys"] {
        for version in ["2", "24001"] {
            let of = |path: &str| format!("{operation}/{path}?version={version}");
            domain.kv_get(&of("team/a")).await.error(404, VERSION_NOT_FOUND);
            domain.kv_get(&of("team/b")).await.error(404, SECRET_NOT_FOUND);
        }
    }
}
