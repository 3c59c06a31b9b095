//! What is written through one API set is read through the other.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    data_written_by_one_is_read_by_the_other,
    states_are_the_same,
    metadata_is_the_same,
    pruning_is_the_same,
    cas_counts_across,
    deletion_is_the_same,
    closing_by_age_is_the_same,
);

async fn data_written_by_one_is_read_by_the_other(server: Server) {
    let domain = server.domain().await;
    let first = r#"{"password":"x","n":1.50,"nested":{"list":[1,"2",null]}}"#;
    domain.create("team/a", first).await;
    let text = domain.kv_get("data/team/a").await.text();
    assert!(text.contains(&format!(r#""data":{first}"#)), "{text}");
    let second = r#"{"password":"y"}"#;
    domain.kv_put("team/a", second).await.ok();
    let body = r#"{"data":{"nested":{"deep":1E3}}}"#;
    domain.client.json(Method::PATCH, &domain.kv("data/team/a"), body).await.ok();
    for (version, expected) in
        [(1, first), (2, second), (3, r#"{"password":"y","nested":{"deep":1E3}}"#)]
    {
        let address = domain.secret(&format!("team/a/version/{version}?includeData=true"));
        let text = domain.client.get(&address).await.text();
        assert!(text.contains(&format!(r#""data":{expected}"#)), "{text}");
        let text = domain.kv_get(&format!("data/team/a?version={version}")).await.text();
        assert!(text.contains(&format!(r#""data":{expected}"#)), "{text}");
    }
    domain.kv_put("team/b", "{}").await.ok();
    let list = domain.client.get(&domain.secret("")).await.ok();
    let paths: Vec<_> = list.as_array().unwrap().iter().map(|item| &item["path"]).collect();
    assert_eq!(paths, ["team/a", "team/b"]);
    assert_eq!(data(&domain.kv_get("metadata/team?list=true").await)["keys"], json!(["a", "b"]));
}

async fn states_are_the_same(server: Server) {
    let domain = server.domain().await;
    for _ in 0..4 {
        domain.kv_put("a", "{}").await.ok();
    }
    let set = async |operation: &str, versions: &[u32]| {
        let address = domain.kv(&format!("{operation}/a"));
        domain.client.put(&address, json!({"versions": versions})).await.gone();
    };
    let states = async || {
        let list = domain.client.get(&domain.secret("a/version")).await.ok();
        let states = list.as_array().unwrap().iter().map(|item| item["state"].clone());
        states.collect::<Vec<_>>()
    };
    set("delete", &[1, 2]).await;
    set("destroy", &[3]).await;
    domain.client.delete(&domain.kv("data/a")).await.gone();
    assert_eq!(states().await, ["deactivated", "deactivated", "deleted", "deactivated"]);
    set("undelete", &[1, 3, 4]).await;
    assert_eq!(states().await, ["active", "deactivated", "deleted", "active"]);
    domain.set_state("a", 1, "deactivated").await.ok();
    domain.set_state("a", 2, "deleted").await.ok();
    let read = data(&domain.kv_get("metadata/a").await);
    let flags = ["1", "2", "3", "4"].map(|version| {
        let version = &read["versions"][version];
        (version["deletion_time"] != "", version["destroyed"] == true)
    });
    assert_eq!(flags, [(true, false), (true, true), (true, true), (false, false)]);
    assert_eq!(domain.kv_get("data/a?version=1").await.status, 404);
    domain.set_state("a", 1, "active").await.ok();
    domain.kv_get("data/a?version=1").await.ok();
}

async fn metadata_is_the_same(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"metadata":{"casRequired":true,
        "customMetadata":{"team":"x"},"deactivateVersionAfter":"1d","maxVersions":3}}"#;
    domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    let read = data(&domain.kv_get("metadata/a").await);
    assert_eq!(read["cas_required"], true);
    assert_eq!(read["custom_metadata"], json!({"team": "x"}));
    assert_eq!(read["delete_version_after"], "24h0m0s");
    assert_eq!(read["max_versions"], 3);
    let v2 = domain.metadata("a").await;
    assert_eq!(v2["urn"], read["urn"]);
    let seconds = |time: &Value| time.as_str().unwrap()[..19].to_owned();
    assert_eq!(seconds(&v2["createdAt"]), seconds(&read["created_time"]));
    server.clock.advance(Duration::from_secs(5));
    let patch =
        r#"{"custom_metadata":{"owner":"y"},"delete_version_after":"90m","max_versions":4}"#;
    domain.client.json(Method::PATCH, &domain.kv("metadata/a"), patch).await.gone();
    let v2 = domain.metadata("a").await;
    assert_eq!(v2["customMetadata"], json!({"owner": "y", "team": "x"}));
    // Letter by letter, as v2 has it.
    assert_eq!(v2["deactivateVersionAfter"], "90m");
    assert_eq!((&v2["maxVersions"], &v2["casRequired"]), (&json!(4), &json!(true)));
    assert_eq!(v2["updatedAt"], server.now());
}

async fn pruning_is_the_same(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("metadata/a"), r#"{"max_versions":2}"#).await.gone();
    domain.kv_put("a", "{}").await.ok();
    domain.add_version("a").await;
    domain.kv_put("a", "{}").await.ok();
    assert_eq!(domain.versions("a").await, [2, 3]);
    domain.add_version("a").await;
    let read = data(&domain.kv_get("metadata/a").await);
    assert_eq!(read["oldest_version"], 3);
    assert_eq!(domain.metadata("a").await["oldestVersion"], 3);
    domain.kv_get("data/a?version=2").await.error(404, VERSION_NOT_FOUND);
}

async fn cas_counts_across(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    domain.client.put(&domain.kv("metadata/a"), r#"{"cas_required":true}"#).await.gone();
    let update = r#"{"version":{"data":{}}}"#;
    domain.client.put(&domain.secret("a"), update).await.error(400, CAS_MISMATCH);
    domain.client.put(&domain.secret("a?cas=1"), update).await.ok();
    let body = |cas: u32| json!({"data": {}, "options": {"cas": cas}});
    domain.client.put(&domain.kv("data/a"), body(1)).await.error(400, CAS_MISMATCH);
    domain.client.put(&domain.kv("data/a"), body(2)).await.ok();
    // Metadata needs none by this API, and does by the other.
    domain.client.put(&domain.kv("metadata/a"), r#"{"max_versions":9}"#).await.gone();
    let metadata = r#"{"metadata":{"maxVersions":8}}"#;
    domain.client.put(&domain.secret("a"), metadata).await.error(400, CAS_MISMATCH);
}

async fn deletion_is_the_same(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    domain.client.delete(&domain.secret("a")).await.gone();
    domain.kv_get("data/a").await.error(404, SECRET_NOT_FOUND);
    domain.create("b", "{}").await;
    domain.client.delete(&domain.kv("metadata/b")).await.gone();
    domain.client.get(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
    domain.client.delete(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
}

async fn closing_by_age_is_the_same(server: Server) {
    let domain = server.domain().await;
    domain.client.put(&domain.kv("config"), r#"{"delete_version_after":"2h"}"#).await.gone();
    domain.create("a", "{}").await;
    domain.kv_put("b", "{}").await.ok();
    server.clock.advance(Duration::from_secs(7_199));
    domain.kv_get("data/a").await.ok();
    assert_eq!(domain.client.get(&domain.secret("b")).await.ok()["version"]["state"], "active");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(domain.kv_get("data/a").await.status, 404);
    let read = domain.client.get(&domain.secret("b")).await.ok();
    assert_eq!(read["version"]["state"], "deactivated");
}
