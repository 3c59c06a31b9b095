//! An import or export that is gone on with once its source has changed.

use std::{fs, pin::pin};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};

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
    a_version_stays_noted_that_was_opened_before_the_right_to_was_taken,
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

async fn a_version_stays_noted_that_was_opened_before_the_right_to_was_taken(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"k":1}"#).await;
    domain.set_state("a", 1, "deactivated").await.ok();
    let state = async || {
        let address = domain.secret("a/version/1");
        domain.client.get(&address).await.ok()["state"].as_str().expect("a state").to_owned()
    };
    let user = rights::user("exporter");
    let (cert, key) = rights::identified(&server, domain.okms_id, &[&user]).await;
    let all = [rights::resource(domain.okms_id, "")];
    let name = format!("export-{}", domain.okms_id);
    let allow = async |denied: &[&str]| {
        rights::apply(&server, &name, &user, &all, &[("allow", &["*"]), ("deny", denied)]).await;
    };
    let closing = ["okms:apikms:secret/version/activate"];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("https://{}", listener.local_addr().expect("an address"));
    // Loses the answer that comes once the version is open, and then takes the right.
    let mut line = pin!(async {
        let mut is_lost = false;
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            let address = server.api_url.strip_prefix("https://").expect("an address");
            let server = TcpStream::connect(address).await.expect("the server");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                if !is_lost && state().await == "active" {
                    is_lost = true;
                    allow(&closing).await;
                    break;
                }
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        }
    });
    let export = |caller: Caller| {
        let arguments = ["export", "--open-deactivated", "note", "--out", "all.jsonl"];
        spawn_blocking(move || (caller.run(&arguments), caller))
    };
    allow(&[]).await;
    let caller = Caller::with(&server, &domain, (&cert, &key));
    let caller = caller.with_variable("OKMS_ENDPOINT", &endpoint);
    let (said, caller) = tokio::select! {
        () = &mut line => unreachable!("it has no end"),
        said = export(caller) => said.expect("it ends"),
    };
    assert_eq!((said.code, state().await.as_str()), (Some(1), "active"), "{said:?}");
    assert!(said.err.contains("the next try is in"), "{said:?}");
    assert!(said.err.contains("it needs `update` on"), "{said:?}");
    assert!(fs::read_to_string(caller.file("note")).unwrap().contains(r#""version":1}"#));

    allow(&[]).await;
    let (said, caller) = tokio::select! {
        () = &mut line => unreachable!("it has no end"),
        said = export(caller) => said.expect("it ends"),
    };
    assert_eq!((said.code, state().await.as_str()), (Some(0), "deactivated"), "{said:?}");
    assert!(!caller.file("note").exists());
    // What was never opened is not noted.
    allow(&closing).await;
    let caller = Caller::with(&server, &domain, (&cert, &key));
    let arguments = ["export", "--open-deactivated", "note", "--out", "all.jsonl"];
    let err = caller.fail(&arguments);
    assert!(err.contains("it needs `update` on"), "{err}");
    assert!(!caller.file("note").exists());
}
