//! `/secretConfig`. What it does to secrets is tested with them.

use serde_json::json;

use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    a_domain_begins_without_defaults,
    what_is_left_out_or_null_stays,
    names_are_taken_in_both_spellings,
    an_update_of_nothing_is_refused,
    values_out_of_bounds_are_refused_and_nothing_is_written,
    defaults_of_one_domain_are_not_those_of_another,
);

async fn a_domain_begins_without_defaults(server: Server) {
    let domain = server.domain().await;
    let config = domain.client.get(&format!("{}/secretConfig", domain.base)).await.ok();
    let unset = json!({"casRequired": false, "deactivateVersionAfter": "0s", "maxVersions": 0});
    assert_eq!(config, unset);
}

async fn what_is_left_out_or_null_stays(server: Server) {
    let domain = server.domain().await;
    let address = format!("{}/secretConfig", domain.base);
    for (body, cas_required, after, max_versions) in [
        (r#"{"maxVersions":24}"#, false, "0s", 24),
        (r#"{"deactivateVersionAfter":"1d","maxVersions":null}"#, false, "1d", 24),
        (r#"{"casRequired":true,"deactivateVersionAfter":null}"#, true, "1d", 24),
        (r#"{"maxVersions":0,"casRequired":false}"#, false, "1d", 0),
        (r#"{"maxVersions":24000,"deactivateVersionAfter":""}"#, false, "0s", 24_000),
        (
            r#"{"casRequired":true,"deactivateVersionAfter":"90d","maxVersions":20}"#,
            true,
            "90d",
            20,
        ),
    ] {
        let expected = json!({
            "casRequired": cas_required,
            "deactivateVersionAfter": after,
            "maxVersions": max_versions,
        });
        assert_eq!(domain.client.put(&address, body).await.ok(), expected);
        assert_eq!(domain.client.get(&address).await.ok(), expected);
    }
}

async fn names_are_taken_in_both_spellings(server: Server) {
    let domain = server.domain().await;
    let address = format!("{}/secretConfig", domain.base);
    let body = r#"{"cas_required":true,"deactivate_version_after":"2h","max_versions":3}"#;
    let expected = json!({"casRequired": true, "deactivateVersionAfter": "2h", "maxVersions": 3});
    assert_eq!(domain.client.put(&address, body).await.ok(), expected);
    for twice in [
        r#"{"cas_required":true,"casRequired":true}"#,
        r#"{"max_versions":1,"maxVersions":1}"#,
        r#"{"deactivate_version_after":"1s","deactivateVersionAfter":null}"#,
    ] {
        domain.client.put(&address, twice).await.error(400, MALFORMED);
    }
    assert_eq!(domain.client.get(&address).await.ok(), expected);
}

async fn an_update_of_nothing_is_refused(server: Server) {
    let domain = server.domain().await;
    let address = format!("{}/secretConfig", domain.base);
    for body in ["{}", r#"{"maxVersions":null}"#, r#"{"unknown":1}"#] {
        domain.client.put(&address, body).await.error(400, FIELD_REQUIRED);
    }
    for body in ["[]", "null", "1", r#""x""#] {
        domain.client.put(&address, body).await.error(400, MALFORMED);
    }
}

async fn values_out_of_bounds_are_refused_and_nothing_is_written(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let config = format!("{}/secretConfig", domain.base);
    for address in [config.clone(), domain.secret("a")] {
        for number in ["24001", "-1", "1.5", "1.0", "1e2", "99999999999999999999999"] {
            let body = format!(r#"{{"casRequired":true,"maxVersions":{number}}}"#);
            domain.client.put(&address, body).await.error(400, INVALID_MAX_VERSIONS);
        }
        for (field, value) in [
            ("maxVersions", r#""5""#),
            ("maxVersions", "true"),
            ("max_versions", "{}"),
            ("casRequired", r#""true""#),
            ("cas_required", "1"),
        ] {
            let body = format!(r#"{{"{field}":{value}}}"#);
            domain.client.put(&address, body).await.error(400, MALFORMED);
        }
    }
    let unset = json!({"casRequired": false, "deactivateVersionAfter": "0s", "maxVersions": 0});
    assert_eq!(domain.client.get(&config).await.ok(), unset);
    let metadata = domain.metadata("a").await;
    assert_eq!(metadata["casRequired"], false);
    assert_eq!(metadata["maxVersions"], 0);
}

async fn defaults_of_one_domain_are_not_those_of_another(server: Server) {
    let (first, second) = (server.domain().await, server.domain().await);
    let body = r#"{"casRequired":true,"maxVersions":2,"deactivateVersionAfter":"1s"}"#;
    first.client.put(&format!("{}/secretConfig", first.base), body).await.ok();
    let config = second.client.get(&format!("{}/secretConfig", second.base)).await.ok();
    let unset = json!({"casRequired": false, "deactivateVersionAfter": "0s", "maxVersions": 0});
    assert_eq!(config, unset);
    second.create("a", "{}").await;
    second.add_version("a").await;
    second.add_version("a").await;
    assert_eq!(second.versions("a").await, [1, 2, 3]);
}
