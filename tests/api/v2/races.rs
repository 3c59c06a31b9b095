//! Writers at the same time.

use std::collections::BTreeMap;

use crate::{
    codes::*,
    support::{Answer, Domain, Server, both_engines},
};

both_engines!(
    of_100_writers_with_the_same_cas_exactly_one_wins,
    of_100_creators_of_one_path_exactly_one_wins,
    writers_without_cas_each_have_a_version_of_their_own,
    a_secret_that_is_deleted_and_written_at_once_is_whole_or_gone,
);

/// Sends the same request many times at once.
async fn all_at_once(
    domain: &Domain,
    count: usize,
    put: bool,
    path: &str,
    body: &str,
) -> Vec<Answer> {
    let address = domain.secret(path);
    let requests = (0..count).map(|index| {
        let (client, address) = (domain.client.clone(), address.clone());
        let body = body.replace("INDEX", &index.to_string());
        tokio::spawn(async move {
            match put {
                true => client.put(&address, body).await,
                false => client.post(&address, body).await,
            }
        })
    });
    let mut answers = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        answers.push(request.await.expect("no panic"));
    }
    answers
}

#[track_caller]
fn check_one_winner(answers: &[Answer], status: u16, code: i64) {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 1), (status, answers.len() - 1)]));
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        lost.error(status, code);
    }
}

async fn of_100_writers_with_the_same_cas_exactly_one_wins(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let body = r#"{"version":{"data":{"writer":INDEX}}}"#;
    for round in 1..=2 {
        let path = format!("a?cas={round}");
        let answers = all_at_once(&domain, 100, true, &path, body).await;
        check_one_winner(&answers, 400, CAS_MISMATCH);
        let winner = answers.iter().position(|answer| answer.status == 200).expect("a winner");
        let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
        assert_eq!(read["version"]["id"], round + 1);
        assert_eq!(read["version"]["data"]["writer"], winner);
    }
}

async fn of_100_creators_of_one_path_exactly_one_wins(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{"writer":INDEX}}}"#;
    let answers = all_at_once(&domain, 100, false, "", body).await;
    check_one_winner(&answers, 409, CONFLICT);
    let winner = answers.iter().position(|answer| answer.status == 200).expect("a winner");
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"]["writer"], winner);
    assert_eq!(domain.versions("a").await, [1]);
}

async fn writers_without_cas_each_have_a_version_of_their_own(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"maxVersions":100}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    let body = r#"{"data":{"writer":INDEX}}"#;
    let answers = all_at_once(&domain, 50, false, "a/version", body).await;
    let mut versions = BTreeMap::new();
    for (writer, answer) in answers.iter().enumerate() {
        versions.insert(answer.ok()["id"].as_u64().expect("a number"), writer);
    }
    assert_eq!(versions.keys().copied().collect::<Vec<_>>(), (2..=51).collect::<Vec<_>>());
    for (version, writer) in versions {
        let address = domain.secret(&format!("a/version/{version}?includeData=true"));
        let read = domain.client.get(&address).await.ok();
        assert_eq!(read["data"]["writer"], writer);
    }
}

async fn a_secret_that_is_deleted_and_written_at_once_is_whole_or_gone(server: Server) {
    let domain = server.domain().await;
    for round in 0..10 {
        let path = format!("s{round}");
        domain.create(&path, r#"{"n":1}"#).await;
        let body = r#"{"data":{"n":2}}"#;
        let version = format!("{path}/version");
        let secret = domain.secret(&path);
        let (written, deleted) = tokio::join!(
            all_at_once(&domain, 5, false, &version, body),
            domain.client.delete(&secret)
        );
        deleted.gone();
        for answer in written {
            assert!(matches!(answer.status, 200 | 404), "{}", answer.text());
        }
        domain.client.get(&domain.secret(&path)).await.error(404, SECRET_NOT_FOUND);
        domain.client.get(&domain.secret(&version)).await.error(404, SECRET_NOT_FOUND);
    }
}
