//! Out of one domain and into another.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio, thread, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use super::{
    caller::{Caller, Said},
    scene::{all_of, furnish, moved},
};
use crate::support::{Server, both_engines};

both_engines!(
    all_comes_back_as_it_was,
    a_subtree_goes_to_another_place,
    whatever_moment_it_is_killed_at_the_result_is_the_same,
    answers_that_are_lost_make_no_version_twice,
    a_dry_run_changes_nothing,
    a_folder_of_several_pages_is_whole_and_in_order,
    versions_without_data_keep_their_numbers,
    deactivated_versions_come_along_where_they_are_opened,
);

async fn all_comes_back_as_it_was(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    let said = exporter.run(&["export", "--out", "all.jsonl"]);
    assert_eq!((said.code, &said.out[..]), (Some(0), "10 secrets, 29 versions\n"), "{said:?}");
    assert!(said.err.contains("PLAINTEXT"), "{said:?}");
    let file = exporter.file("all.jsonl");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(!exporter.file("all.jsonl.unfinished").exists());
    // Never over another one.
    let refused = exporter.fail(&["export", "--out", "all.jsonl"]);
    assert!(refused.contains("is there already"), "{refused}");
    importer.take(&file);
    let out = importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(out, "10 secrets, 29 versions; 10 made, 0 there already\n");
    let (before, after) = (all_of(&from).await, all_of(&to).await);
    assert_eq!(before, after);
    // Again, nothing is to be done, and nothing is.
    let records = server.records().len();
    let out = importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(out, "10 secrets, 29 versions; 0 made, 10 there already\n");
    let changes = server.records().split_off(records);
    assert!(changes.iter().all(|record| record["method"] == "GET"), "{changes:?}");
    assert_eq!(all_of(&to).await, after);
}

async fn a_subtree_goes_to_another_place(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    // That of a secret which others stand below.
    exporter.succeed(&["export", "prod/b", "--out", "b.jsonl"]);
    importer.take(&exporter.file("b.jsonl"));
    importer.succeed(&["import", "file", "b.jsonl", "--to", "new/place"]);
    let before = all_of(&from).await;
    assert_eq!(all_of(&to).await, moved(&before, "prod/b", "new/place"));
    importer.succeed(&["import", "file", "b.jsonl"]);
    let expected = [moved(&before, "prod/b", "new/place"), moved(&before, "prod/b", "prod/b")];
    assert_eq!(all_of(&to).await, expected.concat());
    // A path without anything was mistyped.
    let err = exporter.fail(&["export", "prod/none", "--out", "none.jsonl"]);
    assert!(err.ends_with("okmsd: there is nothing at prod/none\n"), "{err}");
    assert!(!exporter.file("none.jsonl").exists());
    assert!(!exporter.file("none.jsonl.unfinished").exists());
}

async fn whatever_moment_it_is_killed_at_the_result_is_the_same(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "whole.jsonl"]);
    let kills = until_it_ends(&exporter, &["export", "--out", "pieces.jsonl"]);
    assert!(kills > 3, "it was killed {kills} times");
    let text = |name: &str| {
        let text = fs::read_to_string(exporter.file(name)).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(text("pieces.jsonl"), text("whole.jsonl"));
    assert!(!exporter.file("pieces.jsonl.unfinished").exists());
    importer.take(&exporter.file("pieces.jsonl"));
    let kills = until_it_ends(&importer, &["import", "file", "pieces.jsonl"]);
    assert!(kills > 3, "it was killed {kills} times");
    assert_eq!(all_of(&to).await, all_of(&from).await);
}

/// Runs it again and again, killed a bit later each time, until it ends by itself, and gives how often it was
/// killed.
pub fn until_it_ends(caller: &Caller, arguments: &[&str]) -> u32 {
    for kills in 0.. {
        let mut command = caller.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_millis(20) + Duration::from_millis(7) * kills);
        // Too late where it has ended.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = Said::of(&output);
        match said.code {
            Some(0) => return kills,
            // Killed between the two steps by which the file gets its name.
            Some(1) if said.err.contains("is there already") => return kills,
            Some(_) => panic!("{said:?}"),
            None => {}
        }
    }
    unreachable!("it ends")
}

async fn answers_that_are_lost_make_no_version_twice(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    importer.take(&exporter.file("all.jsonl"));
    let line = forgetful_line(&server.api_url).await;
    let said = importer.with_variable("OKMS_ENDPOINT", &line).run(&["import", "file", "all.jsonl"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.matches("the next try is in").count() > 5, "{said:?}");
    assert_eq!(all_of(&to).await, all_of(&from).await);
}

/// The address of a line to a server that passes on what a connection asks for a while, and then ends it in the
/// place of an answer.
async fn forgetful_line(url: &str) -> String {
    let server = url.strip_prefix("https://").expect("an address").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        // Some for the handshake and the first answers, and not the same number each time.
        for passed in (6..12).cycle() {
            let (client, _) = listener.accept().await.expect("a connection");
            let server = TcpStream::connect(&server).await.expect("the server");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                for _ in 0..passed {
                    match from_server.read(&mut buffer).await {
                        Ok(read) if read > 0 => to_client.write_all(&buffer[..read]).await?,
                        _ => break,
                    }
                }
                // This one is lost.
                from_server.read(&mut buffer).await.map(drop)
            });
        }
    });
    format!("https://{address}")
}

async fn a_dry_run_changes_nothing(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    furnish(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    importer.take(&exporter.file("all.jsonl"));
    let out = importer.succeed(&["import", "file", "all.jsonl", "--dry-run"]);
    assert_eq!(out, "10 secrets, 29 versions; 10 to be made, 0 there already\n");
    assert!(all_of(&to).await.is_empty());
}

async fn a_folder_of_several_pages_is_whole_and_in_order(server: Server) {
    let domain = server.domain().await;
    // A page has 500.
    let mut expected: Vec<_> = (0..501).map(|number| format!("f/{number}")).collect();
    expected.extend(["f/500/below", "f/500-beside", "f-beside", "f"].map(str::to_owned));
    for path in &expected {
        domain.create(path, "{}").await;
    }
    expected.sort_unstable();
    let exporter = Caller::of(&server, &domain);
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    let text = fs::read_to_string(exporter.file("all.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let paths = lines.filter_map(|line| line["secret"]["path"].as_str().map(str::to_owned));
    assert_eq!(paths.collect::<Vec<_>>(), expected);
}

async fn versions_without_data_keep_their_numbers(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    from.create("a", r#"{"k":1}"#).await;
    from.add_version("a").await;
    from.set_state("a", 1, "deactivated").await.ok();
    // Its last version closes by its age.
    let body = r#"{"path":"b","metadata":{"deactivateVersionAfter":"1h"},"version":{"data":{}}}"#;
    from.client.post(&format!("{}/secret", from.base), body).await.ok();
    server.clock.advance(Duration::from_secs(3600));
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    let said = exporter.run(&["export", "--out", "all.jsonl"]);
    assert!(said.err.contains("the data of 2 deactivated versions is not in it"), "{said:?}");
    importer.take(&exporter.file("all.jsonl"));
    let said = importer.run(&["import", "file", "all.jsonl"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("2 deactivated versions came without their data"), "{said:?}");
    let mut expected = all_of(&from).await;
    expected[0]["versions"][0]["state"] = "deleted".into();
    expected[1]["versions"][0]["state"] = "deleted".into();
    assert_eq!(all_of(&to).await, expected);
}

async fn deactivated_versions_come_along_where_they_are_opened(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    let body = r#"{"path":"a","metadata":{"maxVersions":20},"version":{"data":{"k":"first"}}}"#;
    from.client.post(&format!("{}/secret", from.base), body).await.ok();
    for number in 1..13 {
        from.set_state("a", number, "deactivated").await.ok();
        from.add_version("a").await;
    }
    // Closed by its age.
    let body = r#"{"path":"b","metadata":{"deactivateVersionAfter":"1h"},"version":{"data":{}}}"#;
    from.client.post(&format!("{}/secret", from.base), body).await.ok();
    server.clock.advance(Duration::from_secs(3600));
    let before = all_of(&from).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    until_it_ends(&exporter, &["export", "--open-deactivated", "note", "--out", "all.jsonl"]);
    // Whatever was open when it was killed is closed again.
    assert_eq!(all_of(&from).await, before);
    assert!(!exporter.file("note").exists());
    importer.take(&exporter.file("all.jsonl"));
    let out = importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(out, "2 secrets, 14 versions; 2 made, 0 there already\n");
    assert_eq!(all_of(&to).await, before);
    let out = importer.succeed(&["import", "file", "all.jsonl"]);
    assert_eq!(out, "2 secrets, 14 versions; 0 made, 2 there already\n");
    to.set_state("a", 1, "active").await.ok();
    let version = to.client.get(&to.secret("a/version/1?includeData=true")).await.ok();
    assert_eq!(version["data"]["k"], "first");
    // A run that has nothing to do leaves no note.
    let err = exporter.fail(&["export", "--open-deactivated", "note", "--out", "all.jsonl"]);
    assert!(err.contains("is there already"), "{err}");
    assert!(!exporter.file("note").exists());
    // A note of elsewhere is not acted upon.
    let note = r#"{"source":"https://elsewhere","path":"a","version":13}"#;
    fs::write(exporter.file("note"), format!("{note}\n")).unwrap();
    let err = exporter.fail(&["export", "--open-deactivated", "note", "--out", "b.jsonl"]);
    assert!(err.contains("note is a note on https://elsewhere"), "{err}");
    assert!(exporter.file("note").exists());
    assert_eq!(all_of(&from).await, before);
}
