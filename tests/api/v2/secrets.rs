//! `/secret` and `/secret/{path}`: create, read, delete.

use serde_json::json;

use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    a_new_secret_is_answered_with_its_metadata_and_without_version,
    the_example_of_the_guide_makes_a_secret,
    settings_are_taken_in_both_spellings_and_both_places,
    a_path_that_has_a_secret_is_a_conflict,
    a_secret_is_read_without_data_unless_it_is_asked_for,
    a_version_is_read_by_its_number,
    bad_numbers_and_flags_in_the_query_are_refused,
    data_comes_back_exactly_as_it_was_written,
    data_is_an_object_of_at_most_64_kib,
    custom_metadata_has_bounds,
    a_deleted_secret_is_gone_and_its_path_starts_anew,
    secrets_of_one_name_in_two_domains_are_two_secrets,
);

async fn a_new_secret_is_answered_with_its_metadata_and_without_version(server: Server) {
    let domain = server.domain().await;
    let now = server.now();
    let expected = json!({
        "path": "team/db",
        "metadata": {
            "casRequired": false,
            "createdAt": now,
            "currentVersion": 1,
            "customMetadata": {},
            "deactivateVersionAfter": "0s",
            "maxVersions": 0,
            "oldestVersion": 0,
            "updatedAt": now,
            "urn": format!("urn:v1:eu:resource:okms:{}/secret/team%2Fdb", domain.okms_id),
        }
    });
    assert_eq!(domain.create("team/db", r#"{"password":"x"}"#).await, expected);
}

async fn the_example_of_the_guide_makes_a_secret(server: Server) {
    let domain = server.domain().await;
    let body = r#"{
        "metadata": {
            "cas_required": true,
            "custom_metadata": {"project": "A", "team": "X"},
            "deactivate_version_after": "10h30m10s",
            "max_versions": 5
        },
        "path": "prod/database/MySQL",
        "version": {"data": {
            "login": "admin",
            "password": "my_secret_password",
            "address": {"ip": "192.0.2.1"},
            "ports": ["3306", "33060"]
        }}
    }"#;
    // The guide writes the slash at the end.
    let made = domain.client.post(&domain.secret(""), body).await.ok();
    assert_eq!(made["path"], "prod/database/MySQL");
    assert_eq!(made["metadata"]["casRequired"], true);
    assert_eq!(made["metadata"]["customMetadata"], json!({"project": "A", "team": "X"}));
    assert_eq!(made["metadata"]["deactivateVersionAfter"], "10h30m10s");
    assert_eq!(made["metadata"]["maxVersions"], 5);
    assert_eq!(made.get("warnings"), None);
    let read = domain.client.get(&domain.secret("prod/database/MySQL?includeData=true")).await;
    let data = r#""data":{"login":"admin","password":"my_secret_password","address":{"ip":"192.0.2.1"},"ports":["3306","33060"]}"#;
    assert!(read.text().contains(data), "{}", read.text());
}

async fn settings_are_taken_in_both_spellings_and_both_places(server: Server) {
    let domain = server.domain().await;
    let camel = r#""casRequired":true,"customMetadata":{"a":"b"},"deactivateVersionAfter":"1d","maxVersions":3"#;
    let snake = r#""cas_required":true,"custom_metadata":{"a":"b"},"deactivate_version_after":"1d","max_versions":3"#;
    let mixed = r#""metadata":{"casRequired":true,"max_versions":3},"custom_metadata":{"a":"b"},"deactivateVersionAfter":"1d""#;
    let fields = [
        format!(r#""metadata":{{{camel}}}"#),
        format!(r#""metadata":{{{snake}}}"#),
        camel.to_owned(),
        snake.to_owned(),
        mixed.to_owned(),
    ];
    for (index, fields) in fields.iter().enumerate() {
        let body = format!(r#"{{"path":"p{index}","version":{{"data":{{}}}},{fields}}}"#);
        let made = domain.client.post(&domain.secret(""), body).await.ok();
        assert_eq!(made.get("warnings"), None, "{made}");
        let metadata = domain.metadata(&format!("p{index}")).await;
        assert_eq!(metadata, made["metadata"]);
        assert_eq!(metadata["casRequired"], true, "{fields}");
        assert_eq!(metadata["customMetadata"], json!({"a": "b"}), "{fields}");
        assert_eq!(metadata["deactivateVersionAfter"], "1d", "{fields}");
        assert_eq!(metadata["maxVersions"], 3, "{fields}");
    }
}

async fn a_path_that_has_a_secret_is_a_conflict(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    let body = r#"{"path":"a","version":{"data":{"n":2}},"metadata":{"maxVersions":7}}"#;
    domain.client.post(&domain.secret(""), body).await.error(409, CONFLICT);
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 1}));
    assert_eq!(read["metadata"]["maxVersions"], 0);
    // A secret and a secret below it are two.
    domain.create("a/b", "{}").await;
}

async fn a_secret_is_read_without_data_unless_it_is_asked_for(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", r#"{"password":"x"}"#).await;
    let version = json!({"id": 1, "state": "active", "createdAt": server.now()});
    let expected = json!({"path": "a", "metadata": made["metadata"], "version": version});
    for query in ["", "?", "?includeData=false", "?other=1"] {
        let read = domain.client.get(&domain.secret(&format!("a{query}"))).await.ok();
        assert_eq!(read, expected, "{query}");
    }
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"password": "x"}));
    domain.client.get(&domain.secret("b")).await.error(404, SECRET_NOT_FOUND);
    domain.client.get(&domain.secret("b?version=1")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_version_is_read_by_its_number(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    domain.client.post(&domain.secret("a/version"), r#"{"data":{"n":2}}"#).await.ok();
    for (query, id, n) in [("", 2, 2), ("&version=1", 1, 1), ("&version=2", 2, 2)] {
        let address = domain.secret(&format!("a?includeData=true{query}"));
        let read = domain.client.get(&address).await.ok();
        assert_eq!(read["version"]["id"], id);
        assert_eq!(read["version"]["data"], json!({ "n": n }));
        assert_eq!(read["metadata"]["currentVersion"], 2);
    }
    for unknown in [3, 24_000] {
        let address = domain.secret(&format!("a?version={unknown}"));
        domain.client.get(&address).await.error(404, VERSION_NOT_FOUND);
    }
}

async fn bad_numbers_and_flags_in_the_query_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for bad in ["0", "24001", "-1", "abc", "", "1.0", "+1", "%201", "99999999999999999999", "1e2"] {
        let address = domain.secret(&format!("a?version={bad}"));
        domain.client.get(&address).await.error(400, INVALID_VERSION);
    }
    for bad in ["includeData=yes", "includeData=", "includeData", "includeData=TRUE"] {
        let address = domain.secret(&format!("a?{bad}"));
        domain.client.get(&address).await.error(400, MALFORMED);
    }
    // Read past, each of these would be answered with another version, or without data.
    for (misspelt, right) in [
        ("Version=1", "version"),
        ("VERSION=1", "version"),
        ("version[]=1", "version"),
        ("version%5B%5D=1", "version"),
        ("include_data=true", "includeData"),
        ("includedata=true", "includeData"),
        ("include-data=true", "includeData"),
        ("IncludeData=true&version=1", "includeData"),
    ] {
        for address in ["a", "a/version/1"] {
            let address = domain.secret(&format!("{address}?{misspelt}"));
            let text = domain.client.get(&address).await.error(400, MALFORMED);
            assert!(text.ends_with(&format!(" {right}")), "{misspelt}: {text}");
        }
    }
    domain.client.get(&domain.secret("a?versions=1&v=1&data=true")).await.ok();
    domain.client.get(&domain.secret("a/version/1?version=1")).await.ok();
    domain.client.get(&domain.secret("a/version/1?version=2")).await.error(400, MALFORMED);
    for twice in ["version=1&version=1", "includeData=true&includeData=false"] {
        let address = domain.secret(&format!("a?{twice}"));
        domain.client.get(&address).await.error(400, MALFORMED);
    }
}

async fn data_comes_back_exactly_as_it_was_written(server: Server) {
    let domain = server.domain().await;
    for (index, data) in [
        "{}",
        r#"{"z":1.10,"a":1e400,"m":123456789012345678901234567890,"b":-0,"c":0.1e-7,"d":1E+2}"#,
        r#"{"b":{"d":1,"c":[{"z":null,"y":true},[],{}]},"a":"x"}"#,
        r#"{"é":"日本語 🔑 \u0000\t\"\\/","":"empty key","\u2028":" "}"#,
        r#"{"$serde_json::private::Number":"1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("p{index}");
        domain.create(&path, data).await;
        let read = domain.client.get(&domain.secret(&format!("{path}?includeData=true"))).await;
        assert_eq!(read.status, 200);
        // What is escaped without need is written plainly; U+2028 is one of these.
        let expected = format!(r#""data":{}}}}}"#, data.replace("\\u2028", "\u{2028}"));
        assert!(read.text().ends_with(&expected), "{} {expected}", read.text());
        let address = domain.secret(&format!("{path}/version/1?includeData=true"));
        let version = domain.client.get(&address).await;
        assert!(version.text().ends_with(&expected[..expected.len() - 1]), "{}", version.text());
    }
}

async fn data_is_an_object_of_at_most_64_kib(server: Server) {
    let domain = server.domain().await;
    let create = |path: &str, data: &str| {
        let body = format!(r#"{{"path":"{path}","version":{{"data":{data}}}}}"#);
        let address = domain.secret("");
        let client = domain.client.clone();
        async move { client.post(&address, body).await }
    };
    for data in ["null", "[]", r#"[{"a":1}]"#, r#""text""#, "1", "true"] {
        create("a", data).await.error(400, INVALID_DATA);
    }
    // 8 bytes beside the text: {"k":""}
    let sized = |bytes: usize| format!("{{ \"k\" :\n \"{}\" }}", "x".repeat(bytes - 8));
    create("a", &sized(65_537)).await.error(400, DATA_TOO_LARGE);
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    create("a", &sized(65_536)).await.ok();
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["k"].as_str().map(str::len), Some(65_528));
    // Escapes count as what they stand for; the body is six times as long.
    let escaped = format!(r#"{{"k":"{}"}}"#, "\\u0041".repeat(65_528));
    create("b", &escaped).await.ok();
    let too_many = format!(r#"{{"k":"{}"}}"#, "\\u00e9".repeat(32_765));
    create("c", &too_many).await.error(400, DATA_TOO_LARGE);

    let nested = |depth: usize| format!("{}1{}", "{\"k\":".repeat(depth), "}".repeat(depth));
    create("d", &nested(32)).await.ok();
    create("e", &nested(33)).await.error(400, DATA_TOO_LARGE);
    for other in ["a/version", "a"] {
        let body = match other {
            "a" => format!(r#"{{"version":{{"data":{}}}}}"#, sized(65_537)),
            _ => format!(r#"{{"data":{}}}"#, sized(65_537)),
        };
        domain.client.put(&domain.secret(other), body).await.error(400, DATA_TOO_LARGE);
    }
}

async fn custom_metadata_has_bounds(server: Server) {
    let domain = server.domain().await;
    let create = |path: &str, map: serde_json::Value| {
        let metadata = json!({ "customMetadata": map });
        let body = json!({"path": path, "metadata": metadata, "version": {"data": {}}});
        let address = domain.secret("");
        let client = domain.client.clone();
        async move { client.post(&address, body).await }
    };
    let entries = |count: usize| -> serde_json::Value {
        (0..count).map(|index| (format!("key{index}"), json!("v"))).collect()
    };
    create("a", entries(64)).await.ok();
    create("b", json!({"k".repeat(128): "v".repeat(512)})).await.ok();
    create("c", json!({"a_B.1:/=@%-": "a_B.1:/=@%-"})).await.ok();
    for refused in [
        entries(65),
        json!({"": "v"}),
        json!({"k".repeat(129): "v"}),
        json!({"k": ""}),
        json!({"k": "v".repeat(513)}),
        json!({"k k": "v"}),
        json!({"k": "v v"}),
        json!({"k": "é"}),
        json!({"k": 1}),
        json!({"k": null}),
        json!({"k": {"a": "b"}}),
    ] {
        create("d", refused.clone()).await.error(400, INVALID_CUSTOM_METADATA);
        let body = json!({ "custom_metadata": refused });
        domain.client.put(&domain.secret("a"), body).await.error(400, INVALID_CUSTOM_METADATA);
    }
    let metadata = domain.metadata("a").await;
    assert_eq!(metadata["customMetadata"], entries(64));
}

async fn a_deleted_secret_is_gone_and_its_path_starts_anew(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{"n":1}},"metadata":{"maxVersions":3,"customMetadata":{"k":"v"}}}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    domain.add_version("a").await;
    domain.client.delete(&domain.secret("a")).await.gone();
    for address in ["a", "a?version=1", "a/version", "a/version/1"] {
        domain.client.get(&domain.secret(address)).await.error(404, SECRET_NOT_FOUND);
    }
    domain.client.delete(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    let put = domain.client.put(&domain.secret("a"), r#"{"version":{"data":{}}}"#).await;
    put.error(404, SECRET_NOT_FOUND);
    let put = domain.client.put(&domain.secret("a"), r#"{"maxVersions":1}"#).await;
    put.error(404, SECRET_NOT_FOUND);
    let post = domain.client.post(&domain.secret("a/version"), r#"{"data":{}}"#).await;
    post.error(404, SECRET_NOT_FOUND);
    domain.set_state("a", 1, "deleted").await.error(404, SECRET_NOT_FOUND);
    assert_eq!(domain.client.get(&domain.secret("")).await.ok(), json!([]));

    let made = domain.create("a", r#"{"n":3}"#).await;
    assert_eq!(made["metadata"]["currentVersion"], 1);
    assert_eq!(made["metadata"]["maxVersions"], 0);
    assert_eq!(made["metadata"]["customMetadata"], json!({}));
    assert_eq!(domain.versions("a").await, [1]);
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 3}));
}

async fn secrets_of_one_name_in_two_domains_are_two_secrets(server: Server) {
    let (first, second) = (server.domain().await, server.domain().await);
    first.create("a", r#"{"n":1}"#).await;
    second.client.get(&second.secret("a")).await.error(404, SECRET_NOT_FOUND);
    second.create("a", r#"{"n":2}"#).await;
    second.client.delete(&second.secret("a")).await.gone();
    let read = first.client.get(&first.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 1}));
}
