//! Domains that have other defaults than those where the secrets come from.

use serde_json::{Value, json};

use super::{
    caller::Caller,
    scene::{all_of, moved},
};
use crate::{
    rights::{self, GET, GET_DATA},
    support::{Domain, Server, both_engines},
};

both_engines!(
    a_copy_behaves_as_its_source_under_other_defaults,
    a_policy_of_what_is_below_a_path_is_enough_to_export_it,
);

/// Changes the defaults of a domain.
pub async fn defaults(domain: &Domain, body: &str) {
    domain.client.put(&format!("{}/secretConfig", domain.base), body).await.ok();
}

/// What the settings of each secret are.
pub async fn settings(domain: &Domain) -> Vec<Value> {
    let of = |secret: &Value| {
        let metadata = &secret["metadata"];
        let names = ["casRequired", "maxVersions", "deactivateVersionAfter"];
        json!([secret["path"], names.map(|name| metadata[name].clone())])
    };
    all_of(domain).await.iter().map(of).collect()
}

async fn a_copy_behaves_as_its_source_under_other_defaults(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    defaults(&from, r#"{"maxVersions":20,"casRequired":true}"#).await;
    defaults(&to, r#"{"maxVersions":2,"deactivateVersionAfter":"1h"}"#).await;
    from.create("all", "{}").await;
    for number in 1..5 {
        let address = from.secret(&format!("all/version?cas={number}"));
        from.client.post(&address, r#"{"data":{}}"#).await.ok();
    }
    let body = r#"{"path":"own","metadata":{"maxVersions":3,"deactivateVersionAfter":"7d"},
        "version":{"data":{}}}"#;
    from.client.post(&format!("{}/secret", from.base), body).await.ok();
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    importer.take(&exporter.file("all.jsonl"));
    importer.succeed(&["import", "file", "all.jsonl"]);
    let expected = [json!(["all", [true, 20, "876600h0m0s"]]), json!(["own", [true, 3, "7d"]])];
    assert_eq!(settings(&to).await, expected);
    let again = importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(again, "2 secrets, 6 versions; 0 made, 2 there already\n");
    // As many are kept as in the source.
    to.client.post(&to.secret("all/version?cas=5"), r#"{"data":{}}"#).await.ok();
    assert_eq!(to.versions("all").await, [1, 2, 3, 4, 5, 6]);
    // Under the same defaults nothing is set.
    let third = server.domain().await;
    defaults(&third, r#"{"maxVersions":20,"casRequired":true}"#).await;
    let importer = Caller::of(&server, &third);
    importer.take(&exporter.file("all.jsonl"));
    importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(all_of(&third).await, all_of(&from).await);
    // What a domain demands a secret cannot lift.
    let (free, strict) = (server.domain().await, server.domain().await);
    free.create("a", "{}").await;
    defaults(&strict, r#"{"casRequired":true}"#).await;
    let (exporter, importer) = (Caller::of(&server, &free), Caller::of(&server, &strict));
    exporter.succeed(&["export", "--out", "free.jsonl"]);
    importer.take(&exporter.file("free.jsonl"));
    let said = importer.run(&["import", "file", "free.jsonl"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("1 secrets take no write without a cas here"), "{said:?}");
}

/// That of README.
async fn a_policy_of_what_is_below_a_path_is_enough_to_export_it(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    for path in ["prod", "prod/a", "prod/b/c", "theirs"] {
        from.create(path, r#"{"k":1}"#).await;
    }
    let okms_id = from.okms_id;
    let user = rights::user("reader");
    let (cert, key) = rights::identified(&server, okms_id, &[&user]).await;
    let below = [rights::resource(okms_id, "/secret/prod/*")];
    rights::apply(&server, "prod", &user, &below, &[("allow", &[GET, GET_DATA])]).await;
    let exporter = Caller::with(&server, &from, (&cert, &key));
    let said = exporter.run(&["export", "prod", "--out", "prod.jsonl"]);
    assert_eq!((said.code, &said.out[..]), (Some(0), "2 secrets, 2 versions\n"), "{said:?}");
    assert!(said.err.contains("cannot read prod: 403 Forbidden"), "{said:?}");
    assert!(said.err.contains("okms:apikms:secretConfig/get"), "{said:?}");
    let importer = Caller::of(&server, &to);
    importer.take(&exporter.file("prod.jsonl"));
    let said = importer.run(&["import", "file", "prod.jsonl"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("2 secrets came without the defaults"), "{said:?}");
    let all = all_of(&from).await;
    let below = [moved(&all, "prod/a", "prod/a"), moved(&all, "prod/b", "prod/b")];
    assert_eq!(all_of(&to).await, below.concat());
    // Where nothing at all may be read, that is a failure.
    for path in ["theirs", "none"] {
        let err = exporter.fail(&["export", path, "--out", "none.jsonl"]);
        assert!(err.contains(&format!("cannot read {path}: 403 Forbidden")), "{err}");
        assert!(!exporter.file("none.jsonl").exists());
    }
}
