//! A list holds what the caller may get, in full pages.

use serde_json::{Value, json};

use super::{GET, apply, client_of, paths, resource, user};
use crate::support::{Client, Domain, Server, both_engines};

both_engines!(
    a_list_holds_what_the_caller_may_get_in_full_pages,
    a_few_secrets_among_many_hidden_ones_are_found,
    without_a_right_a_list_is_empty_at_once,
    a_page_full_of_custom_metadata_ends_early_for_whoever_sees_a_part_too,
    versions_are_listed_with_the_right_to_their_secret_only,
    folders_are_those_that_lead_to_what_the_caller_may_get,
    a_folder_of_hidden_secrets_is_as_one_that_is_not_there,
    what_a_deny_hides_whole_is_not_looked_at,
);

/// `apps/{a|b}/sNN`, `other/NN`, 90 in all.
async fn fill(domain: &Domain) -> Vec<String> {
    let names = (0..30).flat_map(|number| {
        [
            format!("apps/a/s{number:02}"),
            format!("apps/b/s{number:02}"),
            format!("other/{number:02}"),
        ]
    });
    let mut names: Vec<String> = names.collect();
    for name in &names {
        domain.create(name, "{}").await;
    }
    names.sort();
    names
}

async fn seeing(
    server: &Server,
    domain: &Domain,
    name: &str,
    allow: &[&str],
    deny: &[&str],
) -> Client {
    let urns = |below: &[&str]| -> Vec<String> {
        below.iter().map(|below| resource(domain.okms_id, below)).collect()
    };
    apply(server, name, &user(name), &urns(allow), &[("allow", &["*"])]).await;
    if !deny.is_empty() {
        let denies = format!("{name}-deny");
        apply(server, &denies, &user(name), &urns(deny), &[("deny", &[GET])]).await;
    }
    client_of(server, domain.okms_id, &[&user(name)]).await
}

async fn a_list_holds_what_the_caller_may_get_in_full_pages(server: Server) {
    let domain = server.domain().await;
    let all = fill(&domain).await;
    type Sees = fn(&str) -> bool;
    let cases: [(&str, &[&str], &[&str], Sees); 9] = [
        ("prefix", &["/secret/apps/a/*"], &[], |path| path.starts_with("apps/a/")),
        ("domain", &[""], &[], |_| true),
        ("below", &["/*"], &[], |_| true),
        ("suffix", &["/secret/*7"], &[], |path| path.ends_with('7')),
        ("two", &["/secret/other/1*", "/secret/apps/b/s0*"], &[], |path| {
            path.starts_with("other/1") || path.starts_with("apps/b/s0")
        }),
        ("exact", &["/secret/apps%2Fa%2Fs03", "/secret/other/29", "/secret/no"], &[], |path| {
            path == "apps/a/s03" || path == "other/29"
        }),
        ("denied", &[""], &["/secret/apps/*"], |path| path.starts_with("other/")),
        ("holes", &["/secret/apps/*"], &["/secret/*3", "/secret/apps/b/s1*"], |path| {
            path.starts_with("apps/") && !path.ends_with('3') && !path.starts_with("apps/b/s1")
        }),
        ("overlap", &["/secret/apps/*", "/secret/apps/a/*", "/secret/*"], &[], |_| true),
    ];
    for (name, allow, deny, sees) in cases {
        let client = seeing(&server, &domain, name, allow, deny).await;
        let expected: Vec<_> = all.iter().filter(|path| sees(path)).cloned().collect();
        for size in [10, 13, 100] {
            let pages = paths(&client, &domain, size).await;
            assert_eq!(pages.concat(), expected, "{name}, {size}");
            let (last, full) = pages.split_last().expect("a page");
            assert!(full.iter().all(|page| page.len() == size), "{name}: {pages:?}");
            assert!(!last.is_empty(), "{name}: a cursor led to nothing");
        }
        // What is listed can be read, and nothing else.
        for path in &all {
            let status = client.get(&domain.secret(path)).await.status;
            assert_eq!(status, if sees(path) { 200 } else { 403 }, "{name}: {path}");
        }
    }
}

async fn a_few_secrets_among_many_hidden_ones_are_found(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    // Hidden ones in numbers that take several looks, put there at once. They prove nothing, so that one
    // that is looked at closer than by its path would show.
    let copies = "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
                  deactivate_version_after, custom_metadata, current_version, oldest_version, \
                  created_at, updated_at, incarnation) \
                  WITH RECURSIVE numbers (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM numbers \
                  WHERE n < 14999) \
                  SELECT okms_id, 'h/' || n, 0, 0, '0s', '{}', 0, 0, created_at, updated_at, \
                  incarnation FROM secrets, numbers WHERE path = 'a'";
    assert_eq!(server.database.execute(copies).await, 5_000);
    for path in ["h/11x", "h/14500/x", "zx"] {
        domain.create(path, "{}").await;
    }
    let client = seeing(&server, &domain, "few", &["/secret/*x"], &[]).await;
    assert_eq!(paths(&client, &domain, 10).await, [["h/11x", "h/14500/x", "zx"]]);
    let client = seeing(&server, &domain, "none", &["/secret/*y"], &[]).await;
    let list = client.get(&domain.secret("")).await;
    assert_eq!((list.ok(), list.header("x-pagination-cursor-next")), (json!([]), None));
    // Hidden ones on every page: full pages all the same.
    let domain = server.domain().await;
    for number in 10..70 {
        domain.create(&format!("h/{number}"), "{}").await;
    }
    let client = seeing(&server, &domain, "most", &["/secret/*"], &["/secret/h/*0"]).await;
    let pages = paths(&client, &domain, 10).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10, 10, 10, 4]);
}

async fn without_a_right_a_list_is_empty_at_once(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let nobody = client_of(&server, domain.okms_id, &[&user("nobody")]).await;
    let other = [resource(domain.okms_id, "")];
    apply(&server, "data", &user("data"), &other, &[("allow", &[super::GET_DATA])]).await;
    let data = client_of(&server, domain.okms_id, &[&user("data")]).await;
    // Not even storage is asked for secrets.
    server.database.execute("ALTER TABLE secrets RENAME TO hidden").await;
    for client in [nobody, data] {
        let list = client.get(&domain.secret("")).await;
        assert_eq!((list.ok(), list.header("x-pagination-cursor-next")), (json!([]), None));
    }
}

async fn a_page_full_of_custom_metadata_ends_early_for_whoever_sees_a_part_too(server: Server) {
    let domain = server.domain().await;
    let entries = (0..64).map(|n| (format!("{n:0>128}"), Value::from("v".repeat(512))));
    let metadata: serde_json::Map<_, _> = entries.collect();
    for number in 0..60 {
        let body = json!({
            "path": format!("{}/{number:02}", if number % 2 == 0 { "seen" } else { "hidden" }),
            "metadata": { "customMetadata": metadata },
            "version": { "data": {} },
        });
        domain.client.post(&domain.secret(""), body).await.ok();
    }
    let client = seeing(&server, &domain, "part", &["/secret/s*/*"], &[]).await;
    let pages = paths(&client, &domain, 100).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [25, 5]);
    let expected: Vec<_> = (0..60).step_by(2).map(|number| format!("seen/{number:02}")).collect();
    assert_eq!(pages.concat(), expected);
}

async fn versions_are_listed_with_the_right_to_their_secret_only(server: Server) {
    let domain = server.domain().await;
    domain.create("seen/a", "{}").await;
    domain.create("hidden/a", "{}").await;
    let client = seeing(&server, &domain, "seen", &["/secret/seen/*"], &[]).await;
    client.get(&domain.secret("seen/a/version")).await.ok();
    client.get(&domain.secret("hidden/a/version")).await.error(403, crate::codes::FORBIDDEN);
}

/// The names in a folder, read by pages of this size.
async fn names(client: &Client, domain: &Domain, folder: &str, size: usize) -> Vec<Vec<String>> {
    let address = domain.kv(&format!("metadata/{folder}?list=true"));
    let (size, mut cursor, mut pages) = (size.to_string(), None::<String>, Vec::new());
    loop {
        let mut headers = vec![("x-pagination-size", size.as_str())];
        headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
        let answer = client.page(&address, &headers).await;
        let keys = answer.ok()["data"]["keys"].clone();
        pages.push(serde_json::from_value(keys).expect("names"));
        match answer.header("x-pagination-cursor-next") {
            Some(next) => cursor = Some(next.to_owned()),
            None => return pages,
        }
        assert!(pages.len() < 100, "an endless list");
    }
}

/// Teams that have a database, teams that have none, and others.
async fn fill_teams(domain: &Domain) {
    for number in 0..25 {
        for below in ["db", "web", "deep/er/db", "deep/er/web", "dbx", "only/web"] {
            domain.create(&format!("team/t{number:02}/{below}"), "{}").await;
        }
        for below in ["web", "db/x"] {
            domain.create(&format!("team/h{number:02}/{below}"), "{}").await;
        }
    }
    for path in ["team/db", "teams/a/db", "other/db", "team/z"] {
        domain.create(path, "{}").await;
    }
}

async fn folders_are_those_that_lead_to_what_the_caller_may_get(server: Server) {
    let domain = server.domain().await;
    fill_teams(&domain).await;
    let client = seeing(&server, &domain, "db", &["/secret/team/*/db"], &[]).await;
    assert_eq!(names(&client, &domain, "", 10).await, [["team/"]]);
    let teams: Vec<_> = (0..25).map(|number| format!("t{number:02}/")).collect();
    for size in [10, 12, 100] {
        let pages = names(&client, &domain, "team", size).await;
        assert_eq!(pages.concat(), teams, "{size}");
        let (last, full) = pages.split_last().expect("a page");
        assert!(full.iter().all(|page| page.len() == size), "{pages:?}");
        assert!(!last.is_empty());
    }
    assert_eq!(names(&client, &domain, "team/t07", 10).await, [["db", "deep/"]]);
    assert_eq!(names(&client, &domain, "team/t07/deep", 10).await, [["er/"]]);
    assert_eq!(names(&client, &domain, "team/t07/deep/er", 10).await, [["db"]]);
    // A deny closes what lies in between.
    let client =
        seeing(&server, &domain, "holes", &["/secret/team/*/db"], &["/secret/team/t0*"]).await;
    assert_eq!(names(&client, &domain, "team", 100).await.concat(), teams[10..]);
}

async fn a_folder_of_hidden_secrets_is_as_one_that_is_not_there(server: Server) {
    let domain = server.domain().await;
    fill_teams(&domain).await;
    let client = seeing(&server, &domain, "db", &["/secret/team/*/db"], &[]).await;
    let list = async |folder: &str| {
        let answer = client.get(&domain.kv(&format!("metadata/{folder}?list=true"))).await;
        answer.error(404, crate::codes::SECRET_NOT_FOUND);
        answer.text_without_request_id()
    };
    let missing = list("team/nobody").await;
    for hidden in ["team/h07", "team/h07/db", "team/t07/only", "teams", "other", "team/t07/db"] {
        assert_eq!(list(hidden).await, missing, "{hidden}");
    }
    // Whoever has no right at all finds the root empty.
    let nobody = client_of(&server, domain.okms_id, &[&user("nobody")]).await;
    assert_eq!(names(&nobody, &domain, "", 10).await, [Vec::<String>::new()]);
    let answer = nobody.get(&domain.kv("metadata/team?list=true")).await;
    answer.error(404, crate::codes::SECRET_NOT_FOUND);
}

async fn what_a_deny_hides_whole_is_not_looked_at(server: Server) {
    let domain = server.domain().await;
    for path in ["a", "t/b", "t/h/i", "t/z"] {
        domain.create(path, "{}").await;
    }
    // More rows than a list passes over that cannot be read: it would fail if it looked at them.
    let damaged = "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
                   deactivate_version_after, custom_metadata, current_version, oldest_version, \
                   created_at, updated_at, incarnation) \
                   WITH RECURSIVE numbers (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM numbers \
                   WHERE n < 24999) \
                   SELECT okms_id, 't/h/ ' || n, 0, 0, '0s', '[', 0, 0, created_at, updated_at, \
                   incarnation FROM secrets, numbers WHERE path = 'a'";
    assert_eq!(server.database.execute(damaged).await, 15_000);
    let deny = ["/secret/t/h/*", "/secret/x*", "/secret/a*z"];
    let client = seeing(&server, &domain, "most", &[""], &deny).await;
    assert_eq!(paths(&client, &domain, 10).await, [["a", "t/b", "t/z"]]);
    assert_eq!(names(&client, &domain, "t", 10).await, [["b", "z"]]);
    assert_eq!(names(&client, &domain, "", 10).await, [["a", "t/"]]);
    for hidden in ["t/h", "t/h/i", "t/none", "x"] {
        let answer = client.get(&domain.kv(&format!("metadata/{hidden}?list=true"))).await;
        answer.error(404, crate::codes::SECRET_NOT_FOUND);
    }
    // Whoever may see them does look.
    let answer = domain.client.get(&domain.kv("metadata/t?list=true")).await;
    answer.error(500, crate::codes::INTERNAL);
}
