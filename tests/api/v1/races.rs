//! Writers at the same time, through both API sets.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Answer, Domain, Server, both_engines},
};

both_engines!(
    nothing_is_lost_of_64_patches_of_different_keys,
    of_100_writers_with_the_same_cas_by_both_sets_exactly_one_wins,
    closing_versions_beside_patches_leaves_no_half_state,
    of_50_writers_of_a_new_path_one_makes_it_and_all_have_their_version,
    of_50_writers_that_want_a_path_to_be_new_exactly_one_wins,
);

/// Sends requests at once.
async fn all_at_once(domain: &Domain, requests: Vec<(Method, String, Value)>) -> Vec<Answer> {
    let sent = requests.into_iter().map(|(method, address, body)| {
        let client = domain.client.clone();
        tokio::spawn(async move { client.json(method, &address, body).await })
    });
    let mut answers = Vec::new();
    for request in sent.collect::<Vec<_>>() {
        answers.push(request.await.expect("no panic"));
    }
    answers
}

/// How many answers have each status.
fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    statuses
}

async fn nothing_is_lost_of_64_patches_of_different_keys(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"team/a","version":{"data":{"first":1.10}},"maxVersions":100}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    let patches = (0..64).map(|writer| {
        let patch = json!({ "data": { format!("k{writer}"): writer } });
        (Method::PATCH, domain.kv("data/team/a"), patch)
    });
    let answers = all_at_once(&domain, patches.collect()).await;
    let versions: BTreeSet<_> =
        answers.iter().map(|answer| data(answer)["version"].as_u64().expect("a number")).collect();
    assert_eq!(versions, (2..=65).collect());
    let read = domain.kv_get("data/team/a").await;
    assert!(read.text().contains(r#""first":1.10"#), "{}", read.text());
    let read = data(&read);
    assert_eq!(read["metadata"]["version"], 65);
    assert_eq!(read["data"].as_object().map(serde_json::Map::len), Some(65));
    for writer in 0..64 {
        assert_eq!(read["data"][format!("k{writer}")], writer);
    }
    // Each version is the one before it, and one key more: the key of the writer that was told so.
    for (writer, answer) in answers.iter().enumerate() {
        let version = data(answer)["version"].as_u64().expect("a number");
        let address = domain.secret(&format!("team/a/version/{version}?includeData=true"));
        let read = domain.client.get(&address).await.ok();
        let keys = read["data"].as_object().expect("an object");
        assert_eq!(keys.len() as u64, version);
        assert_eq!(keys.keys().next_back(), Some(&format!("k{writer}")));
    }
}

async fn of_100_writers_with_the_same_cas_by_both_sets_exactly_one_wins(server: Server) {
    let domain = server.domain().await;
    domain.create("team/a", "{}").await;
    for round in 1..=2 {
        let requests = (0..100).map(|writer| match writer % 3 {
            0 => {
                let body = json!({ "version": { "data": { "writer": writer } } });
                (Method::PUT, domain.secret(&format!("team/a?cas={round}")), body)
            }
            kind => {
                let body = json!({ "data": { "writer": writer }, "options": { "cas": round } });
                let method = if kind == 1 { Method::POST } else { Method::PATCH };
                (method, domain.kv("data/team/a"), body)
            }
        });
        let answers = all_at_once(&domain, requests.collect()).await;
        assert_eq!(statuses(&answers), BTreeMap::from([(200, 1), (400, 99)]));
        for lost in answers.iter().filter(|answer| answer.status != 200) {
            lost.error(400, CAS_MISMATCH);
        }
        let winner = answers.iter().position(|answer| answer.status == 200).expect("a winner");
        let read = data(&domain.kv_get("data/team/a").await);
        assert_eq!(read["metadata"]["version"], round + 1);
        assert_eq!(read["data"], json!({ "writer": winner }));
    }
}

async fn closing_versions_beside_patches_leaves_no_half_state(server: Server) {
    let domain = server.domain().await;
    for (round, operation) in
        ["delete", "undelete", "destroy"].into_iter().cycle().take(9).enumerate()
    {
        let path = format!("s{round}");
        domain.create(&path, r#"{"n":0}"#).await;
        domain.kv_put(&path, r#"{"n":1}"#).await.ok();
        if operation == "undelete" {
            domain.set_state(&path, 1, "deactivated").await.ok();
            domain.set_state(&path, 2, "deactivated").await.ok();
        }
        let patches = (0..6).map(|writer| {
            let patch = json!({ "data": { format!("k{writer}"): writer } });
            (Method::PATCH, domain.kv(&format!("data/{path}")), patch)
        });
        let mut requests: Vec<_> = patches.collect();
        let body = json!({ "versions": [1, 2] });
        requests.insert(3, (Method::PUT, domain.kv(&format!("{operation}/{path}")), body));
        let mut answers = all_at_once(&domain, requests).await;
        answers.remove(3).gone();
        // A patch made a version of an open one, or was told that the current one is closed.
        let made = answers.iter().filter(|answer| answer.status == 200).count();
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.status, 404, "{}", refused.text());
            assert_eq!(refused.value()["data"]["version"], 2, "{}", refused.text());
        }
        let read = data(&domain.kv_get(&format!("metadata/{path}")).await);
        assert_eq!(read["current_version"], 2 + made);
        let versions = read["versions"].as_object().expect("versions");
        assert_eq!(versions.len(), 2 + made);
        for (id, version) in versions {
            let closed = operation != "undelete" && (id == "1" || id == "2");
            assert_eq!(version["deletion_time"] != "", closed, "{operation} {id} {version}");
            assert_eq!(version["destroyed"], closed && operation == "destroy", "{id} {version}");
            let read = domain.kv_get(&format!("data/{path}?version={id}")).await;
            assert_eq!(read.status, if closed { 404 } else { 200 }, "{}", read.text());
            if !closed {
                let number: usize = id.parse().expect("a number");
                let keys = data(&read)["data"].as_object().map(serde_json::Map::len);
                assert_eq!(keys, Some(1 + number.saturating_sub(2)), "{}", read.text());
            }
        }
    }
}

async fn of_50_writers_of_a_new_path_one_makes_it_and_all_have_their_version(server: Server) {
    let domain = server.domain().await;
    let body = json!({ "max_versions": 100 });
    domain.client.json(Method::PUT, &domain.kv("config"), body).await.gone();
    let requests = (0..50).map(|writer| {
        (Method::PUT, domain.kv("data/team/a"), json!({ "data": { "writer": writer } }))
    });
    let answers = all_at_once(&domain, requests.collect()).await;
    let mut writers = BTreeMap::new();
    for (writer, answer) in answers.iter().enumerate() {
        writers.insert(data(answer)["version"].as_u64().expect("a number"), writer);
    }
    assert_eq!(writers.keys().copied().collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    assert_eq!(domain.versions("team/a").await, (1..=50).collect::<Vec<_>>());
    for (version, writer) in writers {
        let read = data(&domain.kv_get(&format!("data/team/a?version={version}")).await);
        assert_eq!(read["data"]["writer"], writer);
    }
}

async fn of_50_writers_that_want_a_path_to_be_new_exactly_one_wins(server: Server) {
    let domain = server.domain().await;
    let requests = (0..50).map(|writer| match writer % 5 {
        0 => {
            let body = json!({ "path": "team/a", "version": { "data": { "writer": writer } } });
            (Method::POST, domain.secret(""), body)
        }
        _ => {
            let body = json!({ "data": { "writer": writer }, "options": { "cas": "0" } });
            (Method::PUT, domain.kv("data/team/a"), body)
        }
    });
    let answers = all_at_once(&domain, requests.collect()).await;
    for (writer, lost) in answers.iter().enumerate().filter(|(_, answer)| answer.status != 200) {
        match writer % 5 {
            0 => lost.error(409, CONFLICT),
            _ => lost.error(400, CAS_MISMATCH),
        };
    }
    assert_eq!(statuses(&answers)[&200], 1);
    let winner = answers.iter().position(|answer| answer.status == 200).expect("a winner");
    let read = data(&domain.kv_get("data/team/a").await);
    assert_eq!(
        (&read["data"]["writer"], &read["metadata"]["version"]),
        (&json!(winner), &json!(1))
    );
    assert_eq!(domain.versions("team/a").await, [1]);
}
