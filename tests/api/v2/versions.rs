//! `/secret/{path}/version` and `/secret/{path}/version/{version}`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    a_version_is_created_by_post_and_by_put,
    versions_are_listed_ascending_with_their_states_and_without_data,
    a_version_is_read_with_data_if_it_is_asked_for,
    numbers_that_are_none_are_refused,
    states_follow_on_each_other_as_the_table_says,
    states_that_do_not_exist_are_refused,
    the_current_version_shows_its_state_when_it_is_closed,
    a_closed_version_keeps_its_data_to_itself_until_it_is_active_again,
    a_deleted_version_is_gone_for_good_and_stays_in_the_list,
    a_version_without_data_is_refused,
);

async fn a_version_is_created_by_post_and_by_put(server: Server) {
    let domain = server.domain().await;
    domain.create("team/a", "{}").await;
    server.clock.advance(Duration::from_secs(3));
    let now = server.now();
    let address = domain.secret("team/a/version");
    let body = r#"{"data":{"password":"x"}}"#;
    let post = domain.client.post(&address, body).await.ok();
    assert_eq!(post, json!({"id": 2, "state": "active", "createdAt": now}));
    let put = domain.client.put(&address, body).await.ok();
    assert_eq!(put, json!({"id": 3, "state": "active", "createdAt": now}));
    let metadata = domain.metadata("team/a").await;
    assert_eq!(metadata["currentVersion"], 3);
    assert_eq!(metadata["updatedAt"], now);
}

async fn versions_are_listed_ascending_with_their_states_and_without_data(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    let created = server.now();
    for _ in 0..3 {
        domain.add_version("a").await;
    }
    server.clock.advance(Duration::from_secs(60));
    let closed = server.now();
    domain.set_state("a", 2, "deactivated").await.ok();
    domain.set_state("a", 3, "deleted").await.ok();
    let expected = json!([
        {"id": 1, "state": "active", "createdAt": created},
        {"id": 2, "state": "deactivated", "createdAt": created, "deactivatedAt": closed},
        {"id": 3, "state": "deleted", "createdAt": created, "deactivatedAt": closed},
        {"id": 4, "state": "active", "createdAt": created},
    ]);
    for query in ["", "?includeData=true"] {
        let list = domain.client.get(&domain.secret(&format!("a/version{query}"))).await;
        assert_eq!(list.ok(), expected);
        assert_eq!(list.header("x-pagination-cursor-next"), None);
    }
    domain.client.get(&domain.secret("b/version")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_version_is_read_with_data_if_it_is_asked_for(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    domain.client.post(&domain.secret("a/version"), r#"{"data":{"n":2}}"#).await.ok();
    for n in [1, 2] {
        let bare = json!({"id": n, "state": "active", "createdAt": server.now()});
        let with_data =
            json!({"id": n, "state": "active", "createdAt": server.now(), "data": {"n": n}});
        for (query, expected) in
            [("", &bare), ("?includeData=false", &bare), ("?includeData=true", &with_data)]
        {
            let address = domain.secret(&format!("a/version/{n}{query}"));
            assert_eq!(&domain.client.get(&address).await.ok(), expected);
        }
    }
    for address in ["a/version/3", "a/version/24000"] {
        domain.client.get(&domain.secret(address)).await.error(404, VERSION_NOT_FOUND);
    }
    domain.client.get(&domain.secret("b/version/1")).await.error(404, SECRET_NOT_FOUND);
    let address = domain.secret("a/version/1?includeData=maybe");
    domain.client.get(&address).await.error(400, MALFORMED);
}

async fn numbers_that_are_none_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for bad in ["0", "24001", "-1", "abc", "1.0", "+1", "%201", "99999999999999999999", "1%2F2"] {
        let address = domain.secret(&format!("a/version/{bad}"));
        domain.client.get(&address).await.error(400, INVALID_VERSION);
        let put = domain.client.put(&address, r#"{"state":"active"}"#).await;
        put.error(400, INVALID_VERSION);
    }
    domain.set_state("a", 2, "deactivated").await.error(404, VERSION_NOT_FOUND);
}

async fn states_follow_on_each_other_as_the_table_says(server: Server) {
    let domain = server.domain().await;
    let states = ["active", "deactivated", "deleted"];
    for current in [true, false] {
        for from in states {
            for to in states {
                let path = format!("{from}-{to}-{current}");
                check_transition(&server, &domain, &path, (from, to), current).await;
            }
        }
    }
}

async fn check_transition(
    server: &Server,
    domain: &Domain,
    path: &str,
    (from, to): (&str, &str),
    current: bool,
) {
    domain.create(path, r#"{"n":1}"#).await;
    if !current {
        domain.add_version(path).await;
    }
    let created = server.now();
    server.clock.advance(Duration::from_secs(10));
    let first_closed = server.now();
    if from != "active" {
        domain.set_state(path, 1, from).await.ok();
    }
    let metadata = domain.metadata(path).await;
    server.clock.advance(Duration::from_secs(10));
    let answer = domain.set_state(path, 1, to).await;

    let refused = from == "deleted" && to != "deleted";
    let state = if refused { from } else { to };
    let mut expected = json!({"id": 1, "state": state, "createdAt": created});
    if state != "active" {
        let closed = if from == "active" { server.now() } else { first_closed };
        expected["deactivatedAt"] = json!(closed);
    }
    if refused {
        answer.error(400, INVALID_STATE);
    } else {
        assert_eq!(answer.ok(), expected, "{path}");
    }
    let address = domain.secret(&format!("{path}/version/1?includeData=true"));
    let read = domain.client.get(&address).await.ok();
    if state == "active" {
        expected["data"] = json!({"n": 1});
    }
    assert_eq!(read, expected, "{path}");
    // Numbers do not move, and a state is no write of the secret.
    assert_eq!(domain.metadata(path).await, metadata, "{path}");
}

async fn states_that_do_not_exist_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for state in ["ACTIVE", "Deleted", "destroyed", "", "active "] {
        domain.set_state("a", 1, state).await.error(400, INVALID_STATE);
    }
    let put = |body: &'static str| {
        let address = domain.secret("a/version/1");
        let client = domain.client.clone();
        async move { client.put(&address, body).await }
    };
    put("{}").await.error(400, FIELD_REQUIRED);
    put(r#"{"state":null}"#).await.error(400, FIELD_REQUIRED);
    put(r#"{"state":1}"#).await.error(400, MALFORMED);
    assert_eq!(domain.client.get(&domain.secret("a/version/1")).await.ok()["state"], "active");
}

async fn the_current_version_shows_its_state_when_it_is_closed(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    domain.add_version("a").await;
    for state in ["deactivated", "deleted"] {
        domain.set_state("a", 2, state).await.ok();
        let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
        assert_eq!(read["version"]["id"], 2);
        assert_eq!(read["version"]["state"], state);
        assert_eq!(read["version"].get("data"), None);
        assert_eq!(read["metadata"]["currentVersion"], 2);
        let list = domain.client.get(&domain.secret("")).await.ok();
        assert_eq!(list[0]["version"]["state"], state);
    }
    let put = domain.client.put(&domain.secret("a?cas=2"), r#"{"version":{"data":{}}}"#).await;
    assert_eq!(put.ok()["metadata"]["currentVersion"], 3);
    assert_eq!(domain.versions("a").await, [1, 2, 3]);
}

async fn a_closed_version_keeps_its_data_to_itself_until_it_is_active_again(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"password":"CANARY"}"#).await;
    domain.set_state("a", 1, "deactivated").await.ok();
    for address in ["a", "a?version=1", "a/version/1", "a/version", ""] {
        let joint = if address.contains('?') { '&' } else { '?' };
        let address = domain.secret(&format!("{address}{joint}includeData=true"));
        let read = domain.client.get(&address).await;
        read.ok();
        assert!(!read.text().contains("CANARY"), "{}", read.text());
    }
    let active = domain.set_state("a", 1, "active").await.ok();
    assert_eq!(active.get("deactivatedAt"), None);
    assert_eq!(active.get("data"), None);
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"password": "CANARY"}));
}

async fn a_deleted_version_is_gone_for_good_and_stays_in_the_list(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"password":"x"}"#).await;
    domain.add_version("a").await;
    let deleted = domain.set_state("a", 1, "deleted").await.ok();
    assert_eq!(deleted["state"], "deleted");
    assert_eq!(deleted["deactivatedAt"], server.now());
    for state in ["active", "deactivated"] {
        domain.set_state("a", 1, state).await.error(400, INVALID_STATE);
    }
    assert_eq!(domain.versions("a").await, [1, 2]);
    let read = domain.client.get(&domain.secret("a/version/1?includeData=true")).await.ok();
    assert_eq!(read.get("data"), None::<&Value>);
    let read = domain.client.get(&domain.secret("a?version=1&includeData=true")).await.ok();
    assert_eq!(read["version"]["state"], "deleted");
}

async fn a_version_without_data_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for (body, code) in [
        ("{}", FIELD_REQUIRED),
        (r#"{"data":null}"#, INVALID_DATA),
        (r#"{"data":[]}"#, INVALID_DATA),
        (r#"{"data":"x"}"#, INVALID_DATA),
        (r#"{"version":{"data":{}}}"#, FIELD_REQUIRED),
        ("[]", MALFORMED),
    ] {
        domain.client.post(&domain.secret("a/version"), body).await.error(400, code);
        domain.client.put(&domain.secret("a/version"), body).await.error(400, code);
    }
    assert_eq!(domain.versions("a").await, [1]);
}
