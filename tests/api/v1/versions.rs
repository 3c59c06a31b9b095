//! `/secret/delete/{path}`, `/secret/undelete/{path}`, `/secret/destroy/{path}`

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    several_versions_change_as_one,
    what_cannot_change_is_passed_over,
    undelete_starts_the_lifetime_anew,
    no_version_at_all_is_refused,
    a_destroyed_version_is_gone_for_good,
);

/// For each version: deleted, destroyed, or neither.
async fn states(domain: &Domain, path: &str) -> Vec<&'static str> {
    let read = data(&domain.kv_get(&format!("metadata/{path}")).await);
    let versions = read["versions"].as_object().unwrap().clone();
    let state = |version: &Value| match (version["destroyed"] == true, &version["deletion_time"]) {
        (true, _) => "destroyed",
        (false, time) if time == "" => "open",
        _ => "deleted",
    };
    let mut numbered: Vec<(u32, _)> =
        versions.iter().map(|(id, version)| (id.parse().unwrap(), state(version))).collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, state)| state).collect()
}

async fn several_versions_change_as_one(server: Server) {
    let domain = server.domain().await;
    for _ in 0..4 {
        domain.kv_put("team/a", r#"{"k":"v"}"#).await.ok();
    }
    let set = async |operation: &str, method: Method, versions: &str| {
        let body = format!(r#"{{"versions":{versions}}}"#);
        let address = domain.kv(&format!("{operation}/team/a"));
        domain.client.json(method, &address, body).await.gone();
    };
    set("delete", Method::POST, "[1,2]").await;
    assert_eq!(states(&domain, "team/a").await, ["deleted", "deleted", "open", "open"]);
    set("delete", Method::PUT, r#"["4","2"]"#).await;
    assert_eq!(states(&domain, "team/a").await, ["deleted", "deleted", "open", "deleted"]);
    set("undelete", Method::PUT, r#""1, 4""#).await;
    assert_eq!(states(&domain, "team/a").await, ["open", "deleted", "open", "open"]);
    set("destroy", Method::POST, "[1,2,1]").await;
    assert_eq!(states(&domain, "team/a").await, ["destroyed", "destroyed", "open", "open"]);
    set("undelete", Method::POST, "[1,2,3]").await;
    assert_eq!(states(&domain, "team/a").await, ["destroyed", "destroyed", "open", "open"]);
    domain.client.delete(&domain.kv("data/team/a")).await.gone();
    domain.client.delete(&domain.kv("data/team/a")).await.gone();
    assert_eq!(states(&domain, "team/a").await, ["destroyed", "destroyed", "open", "deleted"]);
    let read = data(&domain.kv_get("data/team/a?version=3").await);
    assert_eq!(read["data"], json!({"k": "v"}));
    // A new version goes on counting.
    assert_eq!(data(&domain.kv_put("team/a", "{}").await)["version"], 5);
}

async fn what_cannot_change_is_passed_over(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    let body = r#"{"versions":[0,1,7,24000,99999]}"#;
    for operation in ["delete", "undelete", "destroy"] {
        domain.client.put(&domain.kv(&format!("{operation}/absent")), body).await.gone();
        domain.client.put(&domain.kv(&format!("{operation}/a")), body).await.gone();
    }
    assert_eq!(states(&domain, "a").await, ["destroyed"]);
    domain.client.delete(&domain.kv("data/absent")).await.gone();
    domain.client.delete(&domain.kv("data/a")).await.gone();
    domain.kv_get("metadata/absent").await.error(404, SECRET_NOT_FOUND);
    domain.client.put(&domain.kv("metadata/empty"), r#"{"max_versions":1}"#).await.gone();
    domain.client.delete(&domain.kv("data/empty")).await.gone();
}

async fn undelete_starts_the_lifetime_anew(server: Server) {
    let domain = server.domain().await;
    let settings = r#"{"delete_version_after":"1h"}"#;
    domain.client.put(&domain.kv("metadata/a"), settings).await.gone();
    domain.kv_put("a", "{}").await.ok();
    server.clock.advance(Duration::from_secs(3_600));
    assert_eq!(domain.kv_get("data/a").await.status, 404);
    let undelete = async || {
        domain.client.put(&domain.kv("undelete/a"), r#"{"versions":[1]}"#).await.gone();
    };
    undelete().await;
    domain.kv_get("data/a").await.ok();
    // An open one, too.
    server.clock.advance(Duration::from_secs(3_000));
    undelete().await;
    server.clock.advance(Duration::from_secs(3_000));
    domain.kv_get("data/a").await.ok();
    server.clock.advance(Duration::from_secs(600));
    assert_eq!(domain.kv_get("data/a").await.status, 404);
}

async fn no_version_at_all_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.kv_put("a", "{}").await.ok();
    for operation in ["delete", "undelete", "destroy"] {
        for (body, code) in [
            ("{}", FIELD_REQUIRED),
            (r#"{"versions":[]}"#, FIELD_REQUIRED),
            (r#"{"versions":[-1]}"#, INVALID_VERSION),
            (r#"{"versions":["x"]}"#, INVALID_VERSION),
            (r#"{"versions":[1],"version":1}"#, MALFORMED),
        ] {
            let address = domain.kv(&format!("{operation}/a"));
            domain.client.put(&address, body).await.error(400, code);
        }
        let many = json!({"versions": (1..=1_001).collect::<Vec<_>>()});
        let address = domain.kv(&format!("{operation}/a"));
        domain.client.put(&address, many).await.error(400, INVALID_VERSION);
    }
    assert_eq!(states(&domain, "a").await, ["open"]);
}

async fn a_destroyed_version_is_gone_for_good(server: Server) {
    let domain = server.domain().await;
    for _ in 0..2 {
        domain.kv_put("a", r#"{"k":"v"}"#).await.ok();
    }
    domain.client.put(&domain.kv("destroy/a"), r#"{"versions":[1]}"#).await.gone();
    domain.set_state("a", 1, "active").await.error(400, INVALID_STATE);
    let read = domain.client.get(&domain.secret("a/version/1?includeData=true")).await.ok();
    assert_eq!((&read["state"], &read["data"]), (&json!("deleted"), &Value::Null));
    domain.kv_get("data/a").await.ok();
}
