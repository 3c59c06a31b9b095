//! `PUT /secret/{path}`: metadata, data, check-and-set, warnings.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    metadata_alone_makes_no_new_version,
    data_always_makes_a_new_version,
    both_are_written_as_one_or_not_at_all,
    settings_that_are_left_out_or_null_stay,
    custom_metadata_is_kept_replaced_or_cleared,
    an_update_of_nothing_is_refused,
    cas_is_compared_wherever_it_is_given,
    cas_is_demanded_where_the_secret_requires_it,
    cas_is_demanded_where_the_domain_requires_it,
    the_cas_requirement_of_the_body_counts_for_the_request_itself,
    cas_outside_its_bounds_is_refused,
    unknown_fields_and_parameters_are_ignored_with_a_warning,
    a_false_that_has_no_effect_is_stored_with_a_warning,
);

async fn metadata_alone_makes_no_new_version(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", r#"{"n":1}"#).await;
    server.clock.advance(Duration::from_secs(90));
    let put = domain.client.put(&domain.secret("a"), r#"{"metadata":{"maxVersions":4}}"#).await;
    let mut expected = made.clone();
    expected["metadata"]["maxVersions"] = json!(4);
    expected["metadata"]["updatedAt"] = json!(server.now());
    assert_eq!(put.ok(), expected);
    assert_eq!(domain.metadata("a").await, expected["metadata"]);
    assert_eq!(domain.versions("a").await, [1]);
}

async fn data_always_makes_a_new_version(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", r#"{"n":1}"#).await;
    for current in 2..=3 {
        server.clock.advance(Duration::from_secs(1));
        // The same data each time.
        let put = domain.client.put(&domain.secret("a"), r#"{"version":{"data":{"n":1}}}"#).await;
        let mut expected = made.clone();
        expected["metadata"]["currentVersion"] = json!(current);
        expected["metadata"]["updatedAt"] = json!(server.now());
        assert_eq!(put.ok(), expected);
    }
    assert_eq!(domain.versions("a").await, [1, 2, 3]);
    domain.client.put(&domain.secret("a"), r#"{"version":{"data":{}}}"#).await.ok();
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({}));
    // Reading is no update.
    let updated = domain.metadata("a").await["updatedAt"].clone();
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(domain.metadata("a").await["updatedAt"], updated);
}

async fn both_are_written_as_one_or_not_at_all(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", "{}").await;
    let both = r#"{"metadata":{"maxVersions":2},"version":{"data":{"n":2}}}"#;
    domain.client.put(&domain.secret("a?cas=9"), both).await.error(400, CAS_MISMATCH);
    assert_eq!(domain.metadata("a").await, made["metadata"]);
    let refused = r#"{"metadata":{"maxVersions":2},"version":{"data":[]}}"#;
    domain.client.put(&domain.secret("a"), refused).await.error(400, INVALID_DATA);
    assert_eq!(domain.metadata("a").await, made["metadata"]);
    let put = domain.client.put(&domain.secret("a?cas=1"), both).await.ok();
    assert_eq!(put["metadata"]["maxVersions"], 2);
    assert_eq!(put["metadata"]["currentVersion"], 2);
    assert_eq!(put.get("version"), None);
}

async fn settings_that_are_left_out_or_null_stay(server: Server) {
    let domain = server.domain().await;
    let settings = r#"{"maxVersions":4,"deactivateVersionAfter":"1d","casRequired":true}"#;
    let body = format!(r#"{{"path":"a","version":{{"data":{{}}}},"metadata":{settings}}}"#);
    domain.client.post(&domain.secret(""), body).await.ok();
    let put = |body: &'static str| {
        let address = domain.secret("a?cas=1");
        let client = domain.client.clone();
        async move { client.put(&address, body).await.ok()["metadata"].clone() }
    };
    let shown = |metadata: &Value| {
        json!([
            metadata["maxVersions"],
            metadata["deactivateVersionAfter"],
            metadata["casRequired"]
        ])
    };
    let nulls = r#"{"metadata":{"maxVersions":null,"casRequired":null,"deactivate_version_after":null,"customMetadata":{}}}"#;
    assert_eq!(shown(&put(nulls).await), json!([4, "1d", true]));
    assert_eq!(shown(&put(r#"{"max_versions":0}"#).await), json!([0, "1d", true]));
    let metadata = put(r#"{"metadata":{"deactivateVersionAfter":"24h"}}"#).await;
    assert_eq!(shown(&metadata), json!([0, "24h", true]));
    assert_eq!(shown(&put(r#"{"casRequired":false}"#).await), json!([0, "24h", false]));
    let metadata = put(r#"{"deactivateVersionAfter":""}"#).await;
    assert_eq!(shown(&metadata), json!([0, "0s", false]));
}

async fn custom_metadata_is_kept_replaced_or_cleared(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"customMetadata":{"a":"1","b":"2"}}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    let kept = json!({"a": "1", "b": "2"});
    for (body, expected) in [
        // As the official command line sends it with every update.
        (r#"{"metadata":{"customMetadata":{}}}"#, &kept),
        (r#"{"metadata":{"maxVersions":5}}"#, &kept),
        (r#"{"metadata":{"customMetadata":{"c":"3"}}}"#, &json!({"c": "3"})),
        (r#"{"custom_metadata":{}}"#, &json!({"c": "3"})),
        (r#"{"metadata":{"custom_metadata":null}}"#, &json!({})),
        (r#"{"custom_metadata":{"d":"4"}}"#, &json!({"d": "4"})),
        (r#"{"customMetadata":null,"version":{"data":{}}}"#, &json!({})),
    ] {
        let put = domain.client.put(&domain.secret("a"), body).await.ok();
        assert_eq!(&put["metadata"]["customMetadata"], expected, "{body}");
        assert_eq!(&domain.metadata("a").await["customMetadata"], expected, "{body}");
    }
}

async fn an_update_of_nothing_is_refused(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", "{}").await;
    for body in [
        "{}",
        r#"{"metadata":{}}"#,
        r#"{"metadata":null,"version":null}"#,
        r#"{"metadata":{"maxVersions":null}}"#,
        r#"{"version":{}}"#,
        r#"{"unknown":1}"#,
    ] {
        let text = domain.client.put(&domain.secret("a"), body).await.error(400, FIELD_REQUIRED);
        assert!(text.contains("version"), "{text}");
    }
    assert_eq!(domain.metadata("a").await, made["metadata"]);
}

const DATA: &str = r#"{"version":{"data":{"k":"v"}}}"#;
const METADATA: &str = r#"{"metadata":{"customMetadata":{"k":"v"}}}"#;

async fn cas_is_compared_wherever_it_is_given(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for wrong in ["0", "2", "24000"] {
        for body in [DATA, METADATA] {
            let address = domain.secret(&format!("a?cas={wrong}"));
            let text = domain.client.put(&address, body).await.error(400, CAS_MISMATCH);
            assert!(text.contains("cas"), "{text}");
        }
        let address = domain.secret(&format!("a/version?cas={wrong}"));
        domain.client.post(&address, r#"{"data":{}}"#).await.error(400, CAS_MISMATCH);
        domain.client.put(&address, r#"{"data":{}}"#).await.error(400, CAS_MISMATCH);
    }
    assert_eq!(domain.versions("a").await, [1]);
    domain.client.put(&domain.secret("a?cas=1"), METADATA).await.ok();
    domain.client.put(&domain.secret("a?cas=1"), DATA).await.ok();
    domain.client.put(&domain.secret("a?cas=1"), DATA).await.error(400, CAS_MISMATCH);
    domain.client.post(&domain.secret("a/version?cas=2"), r#"{"data":{}}"#).await.ok();
    domain.client.put(&domain.secret("a/version?cas=3"), r#"{"data":{}}"#).await.ok();
    assert_eq!(domain.versions("a").await, [1, 2, 3, 4]);
    let unknown = domain.client.put(&domain.secret("b?cas=0"), DATA).await;
    unknown.error(404, SECRET_NOT_FOUND);
}

/// Checks that a secret at version 1 takes no write without `cas`.
async fn check_that_cas_is_demanded(domain: &Domain) {
    for body in [DATA, METADATA, r#"{"casRequired":true}"#] {
        let text = domain.client.put(&domain.secret("a"), body).await.error(400, CAS_MISMATCH);
        assert!(text.contains("cas") && text.contains("required"), "{text}");
    }
    let address = domain.secret("a/version");
    domain.client.post(&address, r#"{"data":{}}"#).await.error(400, CAS_MISMATCH);
    domain.client.put(&address, r#"{"data":{}}"#).await.error(400, CAS_MISMATCH);
    assert_eq!(domain.versions("a").await, [1]);
    // Changing a state or deleting takes no cas.
    domain.set_state("a", 1, "deactivated").await.ok();
    domain.set_state("a", 1, "active").await.ok();
    domain.client.put(&domain.secret("a?cas=1"), METADATA).await.ok();
    domain.client.put(&domain.secret("a?cas=1"), DATA).await.ok();
    domain.client.post(&domain.secret("a/version?cas=2"), r#"{"data":{}}"#).await.ok();
}

async fn cas_is_demanded_where_the_secret_requires_it(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"casRequired":true}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    check_that_cas_is_demanded(&domain).await;
    domain.client.delete(&domain.secret("a")).await.gone();
}

async fn cas_is_demanded_where_the_domain_requires_it(server: Server) {
    let domain = server.domain().await;
    let config = format!("{}/secretConfig", domain.base);
    domain.client.put(&config, r#"{"casRequired":true}"#).await.ok();
    // A new secret needs none: that there is no secret yet is the check.
    let made = domain.create("a", "{}").await;
    assert_eq!(made["metadata"]["casRequired"], false);
    check_that_cas_is_demanded(&domain).await;
    // The secret cannot lift it, with or without cas.
    let lift = r#"{"casRequired":false}"#;
    domain.client.put(&domain.secret("a"), lift).await.error(400, CAS_MISMATCH);
    domain.client.put(&domain.secret("a?cas=3"), lift).await.ok();
    domain.client.put(&domain.secret("a"), DATA).await.error(400, CAS_MISMATCH);
    domain.client.put(&config, lift).await.ok();
    domain.client.put(&domain.secret("a"), DATA).await.ok();
}

async fn the_cas_requirement_of_the_body_counts_for_the_request_itself(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let set =
        |required: bool| json!({"metadata": {"casRequired": required}, "version": {"data": {}}});
    domain.client.put(&domain.secret("a"), set(true)).await.error(400, CAS_MISMATCH);
    assert_eq!(domain.metadata("a").await["casRequired"], false);
    domain.client.put(&domain.secret("a?cas=1"), set(true)).await.ok();
    domain.client.put(&domain.secret("a"), DATA).await.error(400, CAS_MISMATCH);
    let put = domain.client.put(&domain.secret("a"), set(false)).await.ok();
    assert_eq!(put["metadata"]["currentVersion"], 3);
    assert_eq!(put["metadata"]["casRequired"], false);
}

async fn cas_outside_its_bounds_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for bad in ["-1", "24001", "abc", "", "1.0", "+1", "99999999999999999999"] {
        for (address, body) in [("a", DATA), ("a/version", r#"{"data":{}}"#)] {
            let address = domain.secret(&format!("{address}?cas={bad}"));
            // Who reads again and tries again on a mismatch would never come to an end.
            let text = domain.client.put(&address, body).await.error(400, MALFORMED);
            assert!(text.contains("cas"), "{text}");
        }
    }
    for misspelt in ["CAS=1", "Cas=9", "cas[]=1", "cas%5B%5D=1", "c_as=1", "cas=1&CAS=1"] {
        for (address, body) in [("a", METADATA), ("a/version", r#"{"data":{}}"#)] {
            let address = domain.secret(&format!("{address}?{misspelt}"));
            let text = domain.client.put(&address, body).await.error(400, MALFORMED);
            assert!(text.ends_with(" cas"), "{text}");
        }
    }
    assert_eq!(domain.versions("a").await, [1]);
    domain.client.put(&domain.secret("a?cas=1&cas=1"), DATA).await.error(400, MALFORMED);
}

async fn unknown_fields_and_parameters_are_ignored_with_a_warning(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{"any":1},"dta":{}},"metadata":{"maxVersion":"CANARY"},"metdata":{"a":"CANARY"}}"#;
    let made = domain.client.post(&domain.secret(""), body).await;
    let warnings = made.ok()["warnings"].clone();
    assert_eq!(
        warnings,
        json!([
            "unknown field metadata.maxVersion was ignored",
            "unknown field version.dta was ignored",
            "unknown field metdata was ignored"
        ])
    );
    assert!(!made.text().contains("CANARY"));
    let one_warning = |answer: Value, expected: &str| {
        assert_eq!(answer["warnings"], json!([expected]));
    };
    let field = "unknown field typo was ignored";
    let put = domain.client.put(&domain.secret("a"), r#"{"maxVersions":2,"typo":1}"#).await;
    one_warning(put.ok(), field);
    let version = domain.secret("a/version");
    let post = domain.client.post(&version, r#"{"data":{},"typo":1}"#).await;
    one_warning(post.ok(), field);
    let put = domain.client.put(&version, r#"{"data":{},"typo":1}"#).await;
    one_warning(put.ok(), field);
    let address = domain.secret("a/version/3");
    let put = domain.client.put(&address, r#"{"state":"active","typo":1}"#).await;
    one_warning(put.ok(), field);
    let config = format!("{}/secretConfig", domain.base);
    let put = domain.client.put(&config, r#"{"maxVersions":20,"typo":1}"#).await;
    one_warning(put.ok(), field);

    let parameter = "query parameters other than cas were ignored";
    let put = domain.client.put(&domain.secret("a?cass=CANARY"), METADATA).await.ok();
    one_warning(put, &format!("{parameter}: cass"));
    let put = domain.client.put(&domain.secret("a?CANARY%20=1"), METADATA).await.ok();
    one_warning(put, parameter);
    let post = domain.client.post(&domain.secret("a/version?version=1"), r#"{"data":{}}"#).await;
    one_warning(post.ok(), &format!("{parameter}: version"));

    // Where there is no check-and-set, who gives `cas` must know that nothing was checked.
    let none = "this request takes no query parameters: they were ignored";
    let body = r#"{"path":"b","version":{"data":{}}}"#;
    one_warning(domain.client.post(&domain.secret("?cas=0"), body).await.ok(), none);
    let state = domain.secret("b/version/1?cas=7");
    one_warning(domain.client.put(&state, r#"{"state":"active"}"#).await.ok(), none);
    let address = format!("{config}?cas=7");
    one_warning(domain.client.put(&address, r#"{"maxVersions":20}"#).await.ok(), none);

    let many = (0..40).map(|index| format!(r#","x{index}":1"#)).collect::<String>();
    let put = domain.client.put(&domain.secret("a"), format!(r#"{{"maxVersions":2{many}}}"#)).await;
    let warnings = put.ok()["warnings"].as_array().expect("warnings").len();
    assert!(warnings < 20, "{warnings}");
    assert!(put.text().contains("24 more"), "{}", put.text());
}

async fn a_false_that_has_no_effect_is_stored_with_a_warning(server: Server) {
    let domain = server.domain().await;
    let config = format!("{}/secretConfig", domain.base);
    domain.client.put(&config, r#"{"casRequired":true}"#).await.ok();
    let body = r#"{"path":"a","version":{"data":{}},"casRequired":false}"#;
    let made = domain.client.post(&domain.secret(""), body).await.ok();
    let text = made["warnings"][0].as_str().expect("a warning").to_owned();
    assert!(text.contains("casRequired") && text.contains("domain"), "{text}");
    let put = domain.client.put(&domain.secret("a?cas=1"), r#"{"casRequired":false}"#).await.ok();
    assert_eq!(put["warnings"], json!([text]));
    let put = domain.client.put(&domain.secret("a?cas=1"), r#"{"casRequired":true}"#).await.ok();
    assert_eq!(put.get("warnings"), None);
}
