//! `/sys`: what clients of Vault ask of the server.

use hyper::Method;
use serde_json::json;

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    there_is_one_mount_and_it_is_the_second_version_of_kv,
    the_server_works_and_says_so_to_callers_of_the_domain_only,
);

fn address(domain: &Domain, below: &str) -> String {
    format!("/api/{}/v1/sys/{below}", domain.okms_id)
}

async fn there_is_one_mount_and_it_is_the_second_version_of_kv(server: Server) {
    let domain = server.domain().await;
    for below in [
        "internal/ui/mounts/secret",
        "internal/ui/mounts/secret/",
        "internal/ui/mounts/secret/prod/database/MySQL",
        "internal/ui/mounts/secret%2Fprod",
        "mounts/secret",
        "mounts/secret/",
    ] {
        let data = domain.client.get(&address(&domain, below)).await.ok()["data"].clone();
        assert_eq!((&data["type"], &data["path"]), (&json!("kv"), &json!("secret/")), "{below}");
        assert_eq!(data["options"], json!({"version": "2"}), "{below}");
    }
    let list = domain.client.get(&address(&domain, "internal/ui/mounts")).await.ok();
    assert_eq!(list["data"]["secret"]["secret/"]["options"]["version"], "2");
    let list = domain.client.get(&address(&domain, "mounts")).await.ok();
    assert_eq!(list["data"]["secret/"]["type"], "kv");
    for below in [
        "internal/ui/mounts/kv",
        "internal/ui/mounts/kv/a/b",
        "internal/ui/mounts/secrets",
        "internal/ui/mounts/secret2/a",
        "internal/ui/mounts/%73ecret%00",
        "mounts/sys",
        "mounts/Secret",
    ] {
        let answer = domain.client.get(&address(&domain, below)).await;
        answer.error(403, OTHER_MOUNT);
    }
}

async fn the_server_works_and_says_so_to_callers_of_the_domain_only(server: Server) {
    let (domain, foreign) = (server.domain().await, server.domain().await);
    let health = domain.client.get(&address(&domain, "health")).await.ok();
    assert_eq!((&health["initialized"], &health["sealed"]), (&json!(true), &json!(false)));
    let head = address(&domain, "health");
    let head = domain.client.send(Method::HEAD, &head, &[], bytes::Bytes::new()).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let status = domain.client.get(&address(&domain, "seal-status")).await.ok();
    assert_eq!(status["sealed"], false);
    let init = domain.client.get(&address(&domain, "init")).await.ok();
    assert_eq!(init, json!({"initialized": true}));
    let leader = domain.client.get(&address(&domain, "leader")).await.ok();
    assert_eq!((&leader["ha_enabled"], &leader["leader_address"]), (&json!(false), &json!("")));
    for below in ["health", "seal-status", "init", "leader", "mounts", "internal/ui/mounts/secret"]
    {
        let nobody = server.client(None);
        nobody.get(&address(&domain, below)).await.error(401, UNAUTHENTICATED);
        foreign.client.get(&address(&domain, below)).await.error(404, DOMAIN_NOT_FOUND);
    }
}
