//! An import that is gone on with once its source has changed.

use std::fs;

use super::{
    caller::Caller,
    scene::{all_of, moved},
};
use crate::{
    rights,
    support::{Domain, Server, both_engines},
};

both_engines!(
    a_copy_that_the_source_has_left_behind_is_named,
    a_copy_that_the_source_only_went_on_from_is_finished,
);

/// A caller that may do all that an import does, but for its last step at the secret `m`.
pub async fn stopped_at_m(server: &Server, domain: &Domain) -> Caller {
    let user = rights::user("importer");
    let okms_id = domain.okms_id;
    let (cert, key) = rights::identified(server, okms_id, &[&user]).await;
    let all = [rights::resource(okms_id, "")];
    rights::apply(server, &format!("all-{okms_id}"), &user, &all, &[("allow", &["*"])]).await;
    let m = [rights::resource(okms_id, "/secret/m")];
    let last_step = ["okms:apikms:secret/updateMetadata"];
    rights::apply(server, &format!("m-{okms_id}"), &user, &m, &[("deny", &last_step)]).await;
    Caller::with(server, domain, (&cert, &key))
}

/// Exports the domain, under the id of an export that was made before, as if it were the same one.
fn export_as(exporter: &Caller, name: &str, id: Option<&str>) -> String {
    exporter.succeed(&["export", "--out", name]);
    let text = fs::read_to_string(exporter.file(name)).unwrap();
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let own = header["okmsdExport"]["id"].as_str().unwrap().to_owned();
    if let Some(id) = id {
        fs::write(exporter.file(name), text.replacen(&own, id, 1)).unwrap();
    }
    own
}

async fn a_copy_that_the_source_has_left_behind_is_named(server: Server) {
    for (change, told) in [
        ("closed", "its version 1"),
        ("other data", "its version 2"),
        ("fewer", "its versions have other numbers"),
    ] {
        let (from, to) = (server.domain().await, server.domain().await);
        from.create("m", r#"{"k":1}"#).await;
        from.add_version("m").await;
        if change == "closed" {
            from.set_state("m", 1, "deactivated").await.ok();
        }
        let exporter = Caller::of(&server, &from);
        let id = export_as(&exporter, "all.jsonl", None);
        let stopped = stopped_at_m(&server, &to).await;
        stopped.take(&exporter.file("all.jsonl"));
        let err = stopped.fail(&["import", "file", "all.jsonl"]);
        assert!(err.contains("cannot change m: 403 Forbidden"), "{err}");
        let unfinished = all_of(&to).await;
        if change == "closed" {
            from.set_state("m", 1, "active").await.ok();
        } else {
            from.client.delete(&from.secret("m")).await;
            from.create("m", r#"{"k":1}"#).await;
        }
        if change == "other data" {
            let body = r#"{"data":{"other":"hunter2"}}"#;
            from.client.post(&from.secret("m/version"), body).await.ok();
        }
        from.create("z", "{}").await;
        let importer = Caller::of(&server, &to);
        export_as(&exporter, "changed.jsonl", Some(&id));
        importer.take(&exporter.file("changed.jsonl"));
        for dry_run in [&["--dry-run"][..], &[]] {
            let err = importer.fail(&[&["import", "file", "changed.jsonl"], dry_run].concat());
            let told =
                format!("m: the unfinished copy differs: delete it and import again ({told})\n");
            assert!(err.contains(&told), "{change}: {err}");
            assert!(!err.contains("hunter2"), "{err}");
        }
        // It is as it was, and all others are there.
        let all = all_of(&to).await;
        assert_eq!(all[..1], unfinished, "{change}");
        assert_eq!(all[1..], moved(&all_of(&from).await, "z", "z"), "{change}");
        to.client.delete(&to.secret("m")).await;
        importer.succeed(&["import", "file", "changed.jsonl"]);
        assert_eq!(all_of(&to).await, all_of(&from).await, "{change}");
    }
}

async fn a_copy_that_the_source_only_went_on_from_is_finished(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    from.create("m", r#"{"k":1}"#).await;
    from.add_version("m").await;
    let exporter = Caller::of(&server, &from);
    let id = export_as(&exporter, "all.jsonl", None);
    let stopped = stopped_at_m(&server, &to).await;
    stopped.take(&exporter.file("all.jsonl"));
    stopped.fail(&["import", "file", "all.jsonl"]);
    // More than the copy keeps so far.
    for _ in 0..3 {
        from.add_version("m").await;
    }
    from.set_state("m", 2, "deleted").await.ok();
    export_as(&exporter, "more.jsonl", Some(&id));
    let importer = Caller::of(&server, &to);
    importer.take(&exporter.file("more.jsonl"));
    importer.succeed(&["import", "file", "more.jsonl"]);
    assert_eq!(all_of(&to).await, all_of(&from).await);
    // One that somebody wrote to meanwhile is another case.
    let third = server.domain().await;
    let stopped = stopped_at_m(&server, &third).await;
    stopped.take(&exporter.file("all.jsonl"));
    stopped.fail(&["import", "file", "all.jsonl"]);
    third.set_state("m", 1, "deleted").await.ok();
    let importer = Caller::of(&server, &third);
    importer.take(&exporter.file("all.jsonl"));
    let err = importer.fail(&["import", "file", "all.jsonl"]);
    assert!(err.contains("delete it and import again (its version 1)"), "{err}");
}
