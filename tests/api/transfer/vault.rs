//! Out of a live OpenBao.

use std::fs;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    caller::Caller,
    defaults::{defaults, settings},
    resumed::stopped_at_m,
    round_trip::until_it_ends,
    scene::{all_of, furnish, moved},
};
use crate::{
    openbao::program::{OpenBaoClient, ROOT_TOKEN, openbao},
    support::{Domain, Server, both_engines},
};

both_engines!(
    all_versions_come_with_their_numbers_states_and_metadata,
    deleted_versions_come_along_where_they_are_opened,
    what_the_rules_refuse_is_listed,
    an_import_of_an_engine_can_be_killed_and_waits_where_it_is_told_to,
    a_token_without_rights_is_told_what_it_lacks,
    a_certificate_logs_in_and_out,
    a_copy_behaves_as_it_did_in_the_engine,
    a_token_for_what_is_below_a_path_is_enough,
    a_copy_that_was_begun_with_another_choice_is_named,
);

/// An engine of its own in the OpenBao of the tests.
struct Engine {
    bao: OpenBaoClient,
    name: String,
}

impl Engine {
    /// None where the test that asks is left out.
    async fn mount() -> Option<Self> {
        let bao = openbao()?.client();
        let name = format!("kv-{}", uuid::Uuid::new_v4());
        bao.mount(&name).await;
        Some(Self { bao, name })
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        let address = format!("/v1/{path}");
        let body = Bytes::from(body.to_string());
        let answer = self.bao.send(method, &address, "application/json", body).await;
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.value() }
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, &format!("{}/{path}", self.name), body).await
    }

    async fn write(&self, path: &str, data: Value) {
        self.put(&format!("data/{path}"), json!({"data": data})).await;
    }

    /// What those tokens may do that are made for it; KV stands for the engine.
    async fn policy(&self, policy: &str) {
        let body = json!({"policy": policy.replace("KV", &self.name)});
        self.send(Method::POST, &format!("sys/policies/acl/{}", self.name), body).await;
    }

    async fn token(&self) -> String {
        let body = json!({"policies": [self.name]});
        let made = self.send(Method::POST, "auth/token/create", body).await;
        made["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// A caller of a domain that imports it, with a token of OpenBao.
    fn caller(&self, server: &Server, domain: &Domain, token: &str) -> Caller {
        Self::reader(Caller::of(server, domain), token)
    }

    fn reader(caller: Caller, token: &str) -> Caller {
        let bao = openbao().expect("it runs");
        fs::write(caller.file("bao.pem"), bao.ca_pem()).unwrap();
        caller
            .with_variable("VAULT_ADDR", bao.url())
            .with_variable("VAULT_CACERT", "bao.pem")
            .with_variable("VAULT_TOKEN", token)
    }
}

fn version(id: u32, state: &str, data: Option<&str>) -> Value {
    // As the answer ends.
    json!({"id": id, "state": state, "data": data.map(|data| format!("{data}}}"))})
}

async fn all_versions_come_with_their_numbers_states_and_metadata(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let domain = server.domain().await;
    for number in 1..=5 {
        engine.write("a", json!({"n": number})).await;
    }
    engine.put("delete/a", json!({"versions": [2, 5]})).await;
    engine.put("destroy/a", json!({"versions": [3]})).await;
    let settings = json!({"max_versions": 2, "cas_required": true, "delete_version_after": "26h",
        "custom_metadata": {"team": "x"}});
    engine.put("metadata/team/b/c", settings).await;
    for number in 0..4 {
        let body = json!({"data": {"n": {"deep": [number, "é"]}}, "options": {"cas": number}});
        engine.put("data/team/b/c", body).await;
    }
    engine.write("team/b", json!({})).await;
    engine.put("metadata/none", json!({"max_versions": 7})).await;
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    let arguments = ["import", "vault", "--mount", &engine.name];
    let said = caller.run(&arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out, "4 secrets, 8 versions; 4 made, 0 there already\n");
    assert!(said.err.contains("2 deactivated versions came without their data"), "{said:?}");
    assert!(!said.err.contains(ROOT_TOKEN), "{said:?}");
    let metadata = |cas: bool, current: u32, after: &str, max: u32, oldest: u32, custom: Value| {
        json!({"casRequired": cas, "currentVersion": current, "customMetadata": custom,
            "deactivateVersionAfter": after, "maxVersions": max, "oldestVersion": oldest})
    };
    let expected = [
        json!({"path": "a", "metadata": metadata(false, 5, "0s", 0, 0, json!({})), "versions": [
            version(1, "active", Some(r#"{"n":1}"#)),
            version(2, "deleted", None),
            version(3, "deleted", None),
            version(4, "active", Some(r#"{"n":4}"#)),
            version(5, "deleted", None),
        ]}),
        json!({"path": "none", "metadata": metadata(false, 0, "0s", 7, 0, json!({})),
            "versions": []}),
        json!({"path": "team/b", "metadata": metadata(false, 1, "0s", 0, 0, json!({})),
            "versions": [version(1, "active", Some("{}"))]}),
        json!({
            "path": "team/b/c",
            "metadata": metadata(true, 4, "26h0m0s", 2, 3, json!({"team": "x"})),
            "versions": [
                version(3, "active", Some(r#"{"n":{"deep":[2,"é"]}}"#)),
                version(4, "active", Some(r#"{"n":{"deep":[3,"é"]}}"#)),
            ],
        }),
    ];
    assert_eq!(all_of(&domain).await, expected);
    // Again, and a part of it to another place.
    let again = caller.succeed(&arguments);
    assert_eq!(again, "4 secrets, 8 versions; 0 made, 4 there already\n");
    let part = [&arguments[..], &["team/b", "--to", "moved"]].concat();
    caller.succeed(&part);
    let moved = moved(&expected, "team/b", "moved");
    assert_eq!(all_of(&domain).await[1..3], moved);
}

async fn deleted_versions_come_along_where_they_are_opened(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let domain = server.domain().await;
    for number in 1..=8 {
        engine.write("a", json!({"n": number})).await;
    }
    engine.put("delete/a", json!({"versions": [1, 2, 3, 5, 6, 8]})).await;
    engine.put("destroy/a", json!({"versions": [4]})).await;
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    until_it_ends(&caller, &["import", "vault", "--mount", &engine.name, "--open-deleted", "note"]);
    assert!(!caller.file("note").exists());
    let metadata = format!("{}/metadata/a", engine.name);
    let metadata = engine.send(Method::GET, &metadata, json!({})).await;
    let states = [
        "deactivated",
        "deactivated",
        "deactivated",
        "deleted",
        "deactivated",
        "deactivated",
        "active",
        "deactivated",
    ];
    let all = all_of(&domain).await;
    for (at, state) in states.into_iter().enumerate() {
        let number = at + 1;
        let version = &metadata["data"]["versions"][number.to_string()];
        let is_open = version["deletion_time"] == "" && version["destroyed"] == false;
        assert_eq!(is_open, state == "active", "{number}: {version}");
        assert_eq!(all[0]["versions"][at]["state"], state, "{number}: {all:?}");
        if state == "deactivated" {
            domain.set_state("a", u32::try_from(number).unwrap(), "active").await.ok();
            let address = domain.secret(&format!("a/version/{number}?includeData=true"));
            assert_eq!(domain.client.get(&address).await.ok()["data"]["n"], number);
        }
    }
}

async fn what_the_rules_refuse_is_listed(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let domain = server.domain().await;
    engine.write("two%20words/a", json!({"k": "hunter2"})).await;
    engine.write("large", json!({"k": "one"})).await;
    engine.write("large", json!({"k": "hunter2".repeat(10_000)})).await;
    engine.write("large", json!({"k": "three"})).await;
    let custom = json!({"custom_metadata": {"good": "x", "bad": "two words"},
        "max_versions": 30_000, "delete_version_after": "1753200h"});
    engine.put("metadata/large", custom).await;
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    for _ in 0..2 {
        let said = caller.run(&["import", "vault", "--mount", &engine.name]);
        assert_eq!(said.code, Some(1), "{said:?}");
        for told in [
            "two words/a: path may only contain",
            "large: the pair \"bad\" is left out: customMetadata keys and values may only",
            "large: version 2 comes without data: data must have at most 65536 bytes",
            "large: maxVersions is 24000, the most there can be",
            "large: \"1753200h0m0s\" is left out: deactivateVersionAfter must be a duration of at most",
            "okmsd: 5 things were not taken as they are\n",
        ] {
            assert!(said.err.contains(told), "{told}: {said:?}");
        }
        assert!(!said.err.contains("hunter2"), "{said:?}");
        let all = all_of(&domain).await;
        assert_eq!(all.len(), 1, "{all:?}");
        let metadata = &all[0]["metadata"];
        assert_eq!(metadata["customMetadata"], json!({"good": "x"}));
        assert_eq!(metadata["maxVersions"], 24_000);
        assert_eq!(metadata["deactivateVersionAfter"], "0s");
        let states = [
            version(1, "active", Some(r#"{"k":"one"}"#)),
            version(2, "deleted", None),
            version(3, "active", Some(r#"{"k":"three"}"#)),
        ];
        assert_eq!(all[0]["versions"], json!(states));
    }
    // An engine of another kind is none of these.
    let err = caller.fail(&["import", "vault", "--mount", "cubbyhole"]);
    assert!(err.contains("the engine at cubbyhole is not KV version 2"), "{err}");
    let err = caller.fail(&["import", "vault", "--mount", "absent"]);
    assert!(err.contains("cannot see an engine at absent: 403 Forbidden"), "{err}");
}

async fn an_import_of_an_engine_can_be_killed_and_waits_where_it_is_told_to(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let (domain, whole) = (server.domain().await, server.domain().await);
    for secret in 0..6 {
        for number in 0..4 {
            engine.write(&format!("{}/s", secret % 3 * 2 + secret), json!({"n": number})).await;
        }
    }
    let arguments = ["import", "vault", "--mount", &engine.name];
    engine.caller(&server, &whole, ROOT_TOKEN).succeed(&arguments);
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    until_it_ends(&caller, &arguments);
    let imported = all_of(&whole).await;
    assert_eq!(all_of(&domain).await, imported);
    // Fewer requests a second than it asks.
    let quota = format!("sys/quotas/rate-limit/{}", engine.name);
    let body = json!({"path": format!("{}/", engine.name), "rate": 20, "interval": "1s"});
    engine.send(Method::POST, &quota, body).await;
    let third = server.domain().await;
    let said = engine.caller(&server, &third, ROOT_TOKEN).run(&arguments);
    engine.send(Method::DELETE, &quota, json!({})).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("429 Too Many Requests; the next try is in "), "{said:?}");
    assert_eq!(all_of(&third).await, imported);
}

async fn a_token_without_rights_is_told_what_it_lacks(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let domain = server.domain().await;
    engine.write("team/a", json!({"k": "hunter2"})).await;
    let name = &engine.name;
    let arguments = ["import", "vault", "--mount", name];
    for (policy, told) in [
        (
            "path \"KV/metadata/\" { capabilities = [\"list\"] }",
            "it needs `list` on KV/metadata/team",
        ),
        (
            "path \"KV/metadata/*\" { capabilities = [\"list\"] }",
            "it needs `read` on KV/metadata/team/a",
        ),
        (
            "path \"KV/metadata/*\" { capabilities = [\"list\", \"read\"] }",
            "it needs `read` on KV/data/team/a",
        ),
    ] {
        engine.policy(policy).await;
        let token = engine.token().await;
        let err = engine.caller(&server, &domain, &token).fail(&arguments);
        assert!(err.contains(&told.replace("KV", name)), "{err}");
        assert!(!err.contains(&token) && !err.contains("hunter2"), "{err}");
    }
    let err = engine.caller(&server, &domain, "wrong").fail(&arguments);
    assert!(err.contains("403 Forbidden") && !err.contains("wrong"), "{err}");
}

/// A server like this one is a Vault too.
async fn a_certificate_logs_in_and_out(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let caller = Caller::of(&server, &to);
    fs::write(caller.file("vault.pem"), &from.certificate_pem).unwrap();
    fs::write(caller.file("vault-key.pem"), &from.private_key_pem).unwrap();
    let address = format!("{}/api/{}", server.api_url, from.okms_id);
    let caller = caller
        .with_variable("VAULT_ADDR", &address)
        .with_variable("VAULT_CACERT", "ca.pem")
        .with_variable("VAULT_CLIENT_CERT", "vault.pem")
        .with_variable("VAULT_CLIENT_KEY", "vault-key.pem");
    caller.succeed(&["import", "vault"]);
    let mut expected = all_of(&from).await;
    let with_settings = expected.iter_mut().find(|secret| secret["path"] == "prod/b").unwrap();
    with_settings["metadata"]["deactivateVersionAfter"] = "169h0m0s".into();
    assert_eq!(all_of(&to).await, expected);
    let tokens = server.tokens.list(from.okms_id).await.expect("a list");
    assert_eq!(tokens.len(), 1);
    assert!(tokens[0].token.as_ref().expect("whole").revoked_at.is_some());
}

async fn a_copy_behaves_as_it_did_in_the_engine(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    let config = json!({"max_versions": 12, "cas_required": true, "delete_version_after": "48h"});
    engine.put("config", config).await;
    let own = json!({"max_versions": 3, "delete_version_after": "72h"});
    engine.put("metadata/more", own).await;
    let own = json!({"max_versions": 15, "delete_version_after": "1h"});
    engine.put("metadata/own", own).await;
    for path in ["more", "none", "own"] {
        for number in 0..13 {
            let body = json!({"data": {"n": number}, "options": {"cas": number}});
            engine.put(&format!("data/{path}"), body).await;
        }
    }
    let domain = server.domain().await;
    let arguments = ["import", "vault", "--mount", &engine.name];
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    caller.succeed(&arguments);
    let expected = [
        json!(["more", [true, 12, "48h0m0s"]]),
        json!(["none", [true, 12, "48h0m0s"]]),
        json!(["own", [true, 15, "1h0m0s"]]),
    ];
    assert_eq!(settings(&domain).await, expected);
    // The next write keeps as many here as it does there.
    for (path, oldest) in [("more", 3), ("none", 3), ("own", 1)] {
        let body = json!({"data": {}, "options": {"cas": 13}});
        engine.put(&format!("data/{path}"), body).await;
        let metadata = format!("{}/metadata/{path}", engine.name);
        let metadata = engine.send(Method::GET, &metadata, json!({})).await;
        let there = metadata["data"]["versions"].as_object().unwrap().len();
        let address = domain.secret(&format!("{path}/version?cas=13"));
        domain.client.post(&address, r#"{"data":{}}"#).await.ok();
        let here = domain.versions(path).await;
        assert_eq!((here[0], here.len()), (oldest, there), "{path}");
    }
    // No time ends a version where the engine says so, whatever the defaults of the domain are.
    engine.put("config", json!({"delete_version_after": "-1s"})).await;
    let other = server.domain().await;
    defaults(&other, r#"{"maxVersions":12,"deactivateVersionAfter":"1h"}"#).await;
    engine.caller(&server, &other, ROOT_TOKEN).succeed(&arguments);
    let expected = [
        json!(["more", [true, 12, "876600h0m0s"]]),
        json!(["none", [true, 0, "876600h0m0s"]]),
        json!(["own", [true, 15, "876600h0m0s"]]),
    ];
    assert_eq!(settings(&other).await, expected);
}

async fn a_token_for_what_is_below_a_path_is_enough(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    for path in ["team", "team/a", "team/b/c", "theirs"] {
        engine.write(path, json!({"k": 1})).await;
    }
    let domain = server.domain().await;
    let policy = r#"path "KV/metadata/team/*" { capabilities = ["list", "read"] }
        path "KV/data/team/*" { capabilities = ["read"] }"#;
    engine.policy(policy).await;
    let token = engine.token().await;
    let caller = engine.caller(&server, &domain, &token);
    let arguments = ["import", "vault", "--mount", &engine.name];
    let said = caller.run(&[&arguments[..], &["team"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out, "2 secrets, 2 versions; 2 made, 0 there already\n");
    for told in ["it needs `read` on KV/config", "it needs `read` on KV/metadata/team; the rest"] {
        assert!(said.err.contains(&told.replace("KV", &engine.name)), "{told}: {said:?}");
    }
    // What may not be opened is not noted as open.
    engine.put("delete/team/a", json!({"versions": [1]})).await;
    let opening = ["--open-deleted", "note", "--to", "opened", "team"];
    let err = caller.fail(&[&arguments[..], &opening].concat());
    let needs = format!("it needs `update` on {}/undelete/team/a", engine.name);
    assert!(err.contains(&needs), "{err}");
    assert!(!caller.file("note").exists());
    // The other way round.
    engine
        .policy(
            r#"path "KV/metadata/team" { capabilities = ["read"] }
        path "KV/data/team" { capabilities = ["read"] }"#,
        )
        .await;
    let said = caller.run(&[&arguments[..], &["team"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out, "1 secrets, 1 versions; 1 made, 0 there already\n");
    assert!(said.err.contains("it needs `list` on"), "{said:?}");
    // Where there is nothing that it may read, that is a failure.
    let err = caller.fail(&[&arguments[..], &["theirs"]].concat());
    assert!(err.contains(&format!("it needs `read` on {}/metadata/theirs", engine.name)), "{err}");
    let root = engine.caller(&server, &domain, ROOT_TOKEN);
    let err = root.fail(&[&arguments[..], &["none"]].concat());
    assert!(err.ends_with("okmsd: there is nothing at none\n"), "{err}");
}

async fn a_copy_that_was_begun_with_another_choice_is_named(server: Server) {
    let Some(engine) = Engine::mount().await else { return };
    for number in 0..3 {
        engine.write("m", json!({"n": number})).await;
    }
    engine.put("delete/m", json!({"versions": [1]})).await;
    let domain = server.domain().await;
    let arguments = ["import", "vault", "--mount", &engine.name];
    let stopped = Engine::reader(stopped_at_m(&server, &domain).await, ROOT_TOKEN);
    let err = stopped.fail(&arguments);
    assert!(err.contains("cannot change m: 403 Forbidden"), "{err}");
    let caller = engine.caller(&server, &domain, ROOT_TOKEN);
    let opening = [&arguments[..], &["--open-deleted", "note"]].concat();
    let err = caller.fail(&opening);
    assert!(err.contains("or with other options"), "{err}");
    assert!(err.contains("the unfinished copy differs: delete it and import again"), "{err}");
    domain.client.delete(&domain.secret("m")).await;
    caller.succeed(&opening);
    assert_eq!(all_of(&domain).await[0]["versions"][0]["state"], "deactivated");
}
