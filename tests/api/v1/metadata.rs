//! `/secret/metadata/{path}`

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    a_metadata_write_makes_a_secret_without_versions,
    what_is_written_replaces_and_what_is_left_out_stays,
    a_patch_changes_single_pairs,
    a_patch_that_changes_nothing_writes_nothing,
    all_versions_are_shown,
    more_versions_than_one_look_takes_are_shown,
    a_deleted_secret_is_gone_with_all_it_had,
    a_deletion_with_a_query_or_a_body_is_refused,
    what_has_no_effect_is_warned_of,
    what_is_no_metadata_is_refused,
);

async fn a_metadata_write_makes_a_secret_without_versions(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("metadata/team/a");
    domain.client.put(&address, "{}").await.gone();
    domain.kv_get("metadata/team/a").await.error(404, SECRET_NOT_FOUND);
    let body = r#"{"custom_metadata":{"managed-by":"external-secrets"}}"#;
    domain.client.put(&address, body).await.gone();
    let read = data(&domain.kv_get("metadata/team/a").await);
    assert_eq!(read["created_time"], read["updated_time"]);
    let expected = json!({
        "cas_required": false,
        "created_time": read["created_time"],
        "current_version": 0,
        "custom_metadata": {"managed-by": "external-secrets"},
        "delete_version_after": "0s",
        "max_versions": 0,
        "oldest_version": 0,
        "updated_time": read["updated_time"],
        "urn": format!("urn:v1:eu:resource:okms:{}/secret/team%2Fa", domain.okms_id),
        "versions": {},
    });
    assert_eq!(read, expected);
    let v2 = domain.client.get(&domain.secret("team/a?includeData=true")).await.ok();
    assert_eq!(v2["metadata"]["currentVersion"], 0);
    assert_eq!(v2.get("version"), None);
    assert!(domain.versions("team/a").await.is_empty());
    // It is there: v2 creates no second one, and 0 is its current version.
    let body = json!({"path": "team/a", "version": {"data": {}}});
    domain.client.post(&format!("{}/secret", domain.base), body).await.error(409, CONFLICT);
    let update = r#"{"version":{"data":{}}}"#;
    domain.client.put(&domain.secret("team/a?cas=0"), update).await.ok();
    assert_eq!(data(&domain.kv_get("data/team/a").await)["metadata"]["version"], 1);
}

async fn what_is_written_replaces_and_what_is_left_out_stays(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("metadata/a");
    let body = r#"{"cas_required":true,"custom_metadata":{"a":"1","b":"2"},
                   "delete_version_after":"1d","max_versions":"5"}"#;
    domain.client.post(&address, body).await.gone();
    server.clock.advance(Duration::from_secs(1));
    domain.client.put(&address, r#"{"custom_metadata":{"c":"3"}}"#).await.gone();
    let settings = async || {
        let read = data(&domain.kv_get("metadata/a").await);
        assert_ne!(read["created_time"], read["updated_time"]);
        ["cas_required", "custom_metadata", "delete_version_after", "max_versions"]
            .map(|name| read[name].clone())
    };
    assert_eq!(settings().await, [json!(true), json!({"c": "3"}), json!("24h0m0s"), json!(5)]);
    let nulls = r#"{"cas_required":null,"custom_metadata":null,"delete_version_after":null,
                    "max_versions":null}"#;
    domain.client.put(&address, nulls).await.gone();
    assert_eq!(settings().await, [json!(false), Value::Null, json!("24h0m0s"), json!(0)]);
    domain.client.put(&address, r#"{"custom_metadata":{},"delete_version_after":0}"#).await.gone();
    assert_eq!(settings().await, [json!(false), Value::Null, json!("0s"), json!(0)]);
}

async fn a_patch_changes_single_pairs(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("metadata/a");
    let patch = async |body: &str| domain.client.json(Method::PATCH, &address, body).await;
    patch(r#"{"max_versions":3}"#).await.error(404, SECRET_NOT_FOUND);
    let body = r#"{"cas_required":true,"custom_metadata":{"a":"1","b":"2"},
                   "delete_version_after":"1d","max_versions":5}"#;
    domain.client.post(&address, body).await.gone();
    patch(r#"{"custom_metadata":{"a":null,"c":"3"},"max_versions":6}"#).await.gone();
    let read = data(&domain.kv_get("metadata/a").await);
    assert_eq!(read["custom_metadata"], json!({"b": "2", "c": "3"}));
    assert_eq!((&read["max_versions"], &read["cas_required"]), (&json!(6), &json!(true)));
    let nulls = r#"{"cas_required":null,"custom_metadata":null,"delete_version_after":null,
                    "max_versions":null}"#;
    patch(nulls).await.gone();
    let read = data(&domain.kv_get("metadata/a").await);
    assert_eq!((&read["max_versions"], &read["cas_required"]), (&json!(0), &json!(false)));
    assert_eq!(read["delete_version_after"], "0s");
    assert_eq!(read["custom_metadata"], Value::Null);
}

async fn a_patch_that_changes_nothing_writes_nothing(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("metadata/a");
    let patch = async |body: &str| domain.client.json(Method::PATCH, &address, body).await;
    patch("{}").await.error(404, SECRET_NOT_FOUND);
    let body = r#"{"custom_metadata":{"a":"1"},"max_versions":5}"#;
    domain.client.post(&address, body).await.gone();
    let before = data(&domain.kv_get("metadata/a").await);
    server.clock.advance(Duration::from_secs(60));
    for body in [
        "{}",
        r#"{"custom_metadata":{}}"#,
        r#"{"custom_metadata":{"a":"1","b":null}}"#,
        r#"{"max_versions":"5","cas_required":null,"delete_version_after":null}"#,
    ] {
        patch(body).await.gone();
        assert_eq!(data(&domain.kv_get("metadata/a").await), before, "{body}");
    }
    patch(r#"{"custom_metadata":{"a":"2"}}"#).await.gone();
    let after = data(&domain.kv_get("metadata/a").await);
    assert_ne!(after["updated_time"], before["updated_time"]);
}

async fn all_versions_are_shown(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("metadata/a"), r#"{"max_versions":3}"#).await.gone();
    for _ in 0..12 {
        domain.kv_put("a", "{}").await.ok();
    }
    let read = data(&domain.kv_get("metadata/a").await);
    let versions: Vec<_> = read["versions"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(versions, ["10", "11", "12"]);
    assert_eq!((&read["current_version"], &read["oldest_version"]), (&json!(12), &json!(10)));
    let version = &read["versions"]["11"];
    let expected = json!({
        "created_time": version["created_time"],
        "deletion_time": "",
        "destroyed": false,
    });
    assert_eq!(*version, expected);
    domain.kv_get("data/a?version=9").await.error(404, VERSION_NOT_FOUND);
}

async fn more_versions_than_one_look_takes_are_shown(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("metadata/a"), r#"{"max_versions":24000}"#).await.gone();
    for _ in 0..1_001 {
        domain.kv_put("a", "{}").await.ok();
    }
    let read = data(&domain.kv_get("metadata/a").await);
    let versions = read["versions"].as_object().unwrap();
    assert_eq!(versions.len(), 1_001);
    // In the order of their numbers.
    assert!(versions.keys().map(|id| id.parse::<u32>().unwrap()).eq(1..=1_001));
}

async fn a_deleted_secret_is_gone_with_all_it_had(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    domain.kv_put("a", "{}").await.ok();
    domain.client.delete(&domain.kv("metadata/a")).await.gone();
    domain.client.delete(&domain.kv("metadata/a")).await.gone();
    domain.kv_get("metadata/a").await.error(404, SECRET_NOT_FOUND);
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    assert_eq!(data(&domain.kv_put("a", "{}").await)["version"], 1);
}

async fn a_deletion_with_a_query_or_a_body_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    for query in ["?version=1", "?versions=1", "?list=true", "?x"] {
        let address = domain.kv(&format!("metadata/a{query}"));
        let text = domain.client.delete(&address).await.error(400, MALFORMED);
        assert!(text.contains("all its versions"), "{text}");
    }
    let body = json!({"versions": [1]});
    let deleted = domain.client.json(Method::DELETE, &domain.kv("metadata/a"), body).await;
    assert!(deleted.error(400, MALFORMED).contains("no body"));
    assert_eq!(domain.versions("a").await, [1]);
    domain.client.delete(&domain.kv("metadata/a?")).await.gone();
}

async fn what_has_no_effect_is_warned_of(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("config"), r#"{"cas_required":true}"#).await.gone();
    for method in [Method::PUT, Method::PATCH] {
        let address = domain.kv("metadata/a");
        let written = domain.client.json(method, &address, r#"{"cas_required":false}"#).await;
        let warned = written.ok();
        let text = warned["warnings"][0].as_str().unwrap();
        assert!(text.contains("cas_required") && !text.contains("casRequired"), "{text}");
    }
    let address = domain.kv("metadata/a");
    domain.client.put(&address, r#"{"cas_required":true}"#).await.gone();
}

async fn what_is_no_metadata_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    for method in [Method::PUT, Method::POST, Method::PATCH] {
        for (body, code) in [
            (r#"{"custom_metadata":{"a":1}}"#, INVALID_CUSTOM_METADATA),
            (r#"{"custom_metadata":{"a":"b c"}}"#, INVALID_CUSTOM_METADATA),
            (r#"{"custom_metadata":{"":"b"}}"#, INVALID_CUSTOM_METADATA),
            (r#"{"custom_metadata":[]}"#, MALFORMED),
            (r#"{"max_versions":24001}"#, INVALID_MAX_VERSIONS),
            (r#"{"delete_version_after":"1w"}"#, INVALID_DURATION),
            (r#"{"delete_version_after":true}"#, MALFORMED),
            (r#"{"cas_required":2}"#, MALFORMED),
            (r#"{"maxVersions":2}"#, MALFORMED),
            ("[]", MALFORMED),
        ] {
            let written = domain.client.json(method.clone(), &domain.kv("metadata/a"), body).await;
            let text = written.error(400, code);
            assert!(
                !text.contains("customMetadata") && !text.contains("maxVersions must"),
                "{text}"
            );
        }
    }
    let null = r#"{"custom_metadata":{"a":null}}"#;
    domain.client.put(&domain.kv("metadata/a"), null).await.error(400, INVALID_CUSTOM_METADATA);
}
