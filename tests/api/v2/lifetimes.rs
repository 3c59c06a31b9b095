//! Automatic deactivation by age.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    a_version_closes_on_time_to_the_second,
    a_version_that_is_activated_again_has_its_whole_time_anew,
    the_secret_says_before_the_domain_how_long_a_version_stays_open,
    the_time_in_the_body_counts_for_the_version_of_the_same_request,
    new_settings_count_for_new_versions_only,
    a_version_that_closed_by_age_can_be_deleted,
    a_version_that_was_closed_by_hand_keeps_its_time,
    durations_come_back_as_they_were_written,
    what_is_no_duration_is_refused,
);

const MILLISECOND: Duration = Duration::from_millis(1);

async fn create_with_lifetime(domain: &Domain, path: &str, lifetime: &str) {
    let metadata = json!({ "deactivateVersionAfter": lifetime });
    let body = json!({"path": path, "version": {"data": {"n": 1}}, "metadata": metadata});
    domain.client.post(&domain.secret(""), body).await.ok();
}

async fn read_version(domain: &Domain, path: &str, version: u32) -> Value {
    let address = domain.secret(&format!("{path}/version/{version}?includeData=true"));
    domain.client.get(&address).await.ok()
}

async fn check_open(domain: &Domain, path: &str, version: u32) {
    let read = read_version(domain, path, version).await;
    assert_eq!(read["state"], "active", "{read}");
    assert_eq!(read.get("deactivatedAt"), None, "{read}");
    assert!(read["data"].is_object(), "{read}");
}

async fn check_closed(domain: &Domain, path: &str, version: u32, at: &str) {
    let read = read_version(domain, path, version).await;
    assert_eq!(read["state"], "deactivated", "{read}");
    assert_eq!(read["deactivatedAt"], at, "{read}");
    assert_eq!(read.get("data"), None, "{read}");
}

async fn a_version_closes_on_time_to_the_second(server: Server) {
    let domain = server.domain().await;
    create_with_lifetime(&domain, "a", "10h30m10s").await;
    server.clock.advance(Duration::from_secs(37_810) - MILLISECOND);
    check_open(&domain, "a", 1).await;
    server.clock.advance(MILLISECOND);
    let closed = server.now();
    check_closed(&domain, "a", 1, &closed).await;
    // In every place that shows it, without anything having run.
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["state"], "deactivated");
    assert_eq!(read["version"]["deactivatedAt"], closed);
    assert_eq!(read["version"].get("data"), None);
    let versions = domain.client.get(&domain.secret("a/version")).await.ok();
    assert_eq!(versions[0]["state"], "deactivated");
    let secrets = domain.client.get(&domain.secret("")).await.ok();
    assert_eq!(secrets[0]["version"]["state"], "deactivated");
    // The next version has its own time.
    assert_eq!(domain.add_version("a").await["state"], "active");
    check_open(&domain, "a", 2).await;
}

async fn a_version_that_is_activated_again_has_its_whole_time_anew(server: Server) {
    let domain = server.domain().await;
    create_with_lifetime(&domain, "a", "1h").await;
    server.clock.advance(Duration::from_secs(5_000));
    let active = domain.set_state("a", 1, "active").await.ok();
    assert_eq!(active["state"], "active");
    assert_eq!(active.get("deactivatedAt"), None);
    server.clock.advance(Duration::from_secs(3_600) - MILLISECOND);
    check_open(&domain, "a", 1).await;
    server.clock.advance(MILLISECOND);
    check_closed(&domain, "a", 1, &server.now()).await;
}

async fn the_secret_says_before_the_domain_how_long_a_version_stays_open(server: Server) {
    let domain = server.domain().await;
    let config = format!("{}/secretConfig", domain.base);
    domain.client.put(&config, r#"{"deactivateVersionAfter":"1h"}"#).await.ok();
    create_with_lifetime(&domain, "longer", "2h").await;
    create_with_lifetime(&domain, "inherits", "0s").await;
    domain.create("unset", "{}").await;
    assert_eq!(domain.metadata("unset").await["deactivateVersionAfter"], "0s");
    server.clock.advance(Duration::from_secs(3_600));
    let closed = server.now();
    check_open(&domain, "longer", 1).await;
    check_closed(&domain, "inherits", 1, &closed).await;
    check_closed(&domain, "unset", 1, &closed).await;
    server.clock.advance(Duration::from_secs(3_600));
    check_closed(&domain, "longer", 1, &server.now()).await;
}

async fn the_time_in_the_body_counts_for_the_version_of_the_same_request(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let body = r#"{"metadata":{"deactivateVersionAfter":"30"},"version":{"data":{}}}"#;
    domain.client.put(&domain.secret("a"), body).await.ok();
    server.clock.advance(Duration::from_secs(30));
    check_open(&domain, "a", 1).await;
    check_closed(&domain, "a", 2, &server.now()).await;
}

async fn new_settings_count_for_new_versions_only(server: Server) {
    let domain = server.domain().await;
    create_with_lifetime(&domain, "a", "1h").await;
    domain.client.put(&domain.secret("a"), r#"{"deactivateVersionAfter":"1d"}"#).await.ok();
    server.clock.advance(Duration::from_secs(3_600));
    check_closed(&domain, "a", 1, &server.now()).await;
    domain.add_version("a").await;
    server.clock.advance(Duration::from_secs(86_399));
    check_open(&domain, "a", 2).await;
    server.clock.advance(Duration::from_secs(1));
    check_closed(&domain, "a", 2, &server.now()).await;
}

async fn a_version_that_closed_by_age_can_be_deleted(server: Server) {
    let domain = server.domain().await;
    create_with_lifetime(&domain, "a", "10s").await;
    server.clock.advance(Duration::from_secs(10));
    let closed = server.now();
    server.clock.advance(Duration::from_secs(10));
    // Deactivating it once more changes nothing.
    let again = domain.set_state("a", 1, "deactivated").await.ok();
    assert_eq!(again["deactivatedAt"], closed);
    let deleted = domain.set_state("a", 1, "deleted").await.ok();
    assert_eq!(deleted["state"], "deleted");
    assert_eq!(deleted["deactivatedAt"], closed);
    domain.set_state("a", 1, "active").await.error(400, INVALID_STATE);
}

async fn a_version_that_was_closed_by_hand_keeps_its_time(server: Server) {
    let domain = server.domain().await;
    create_with_lifetime(&domain, "a", "1h").await;
    server.clock.advance(Duration::from_secs(10));
    domain.set_state("a", 1, "deactivated").await.ok();
    let closed = server.now();
    server.clock.advance(Duration::from_secs(4_000));
    check_closed(&domain, "a", 1, &closed).await;
}

async fn durations_come_back_as_they_were_written(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for duration in
        ["1d", "24h", "86400", "7d1h30m10s", "1.5h", "0h", "0", "2000ms", "1h1h", "36525d"]
    {
        let body = json!({ "deactivateVersionAfter": duration });
        let put = domain.client.put(&domain.secret("a"), &body).await.ok();
        assert_eq!(put["metadata"]["deactivateVersionAfter"], duration);
        assert_eq!(domain.metadata("a").await["deactivateVersionAfter"], duration);
        let config = format!("{}/secretConfig", domain.base);
        domain.client.put(&config, body).await.ok();
        assert_eq!(domain.client.get(&config).await.ok()["deactivateVersionAfter"], duration);
    }
}

async fn what_is_no_duration_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for duration in [
        "-1s",
        "+1h",
        "1 h",
        " 1h",
        "1h ",
        "1h 30m",
        "1w",
        "1y",
        "1month",
        "1H",
        "h",
        "x",
        "1h30",
        "500ms",
        "36525d1s",
        "١s",
        "1e3s",
        "99999999999999999999d",
    ] {
        let body = json!({ "deactivateVersionAfter": duration });
        let put = domain.client.put(&domain.secret("a"), &body).await;
        let text = put.error(400, INVALID_DURATION);
        assert!(text.contains("deactivateVersionAfter"), "{text}");
        let config = format!("{}/secretConfig", domain.base);
        domain.client.put(&config, body).await.error(400, INVALID_DURATION);
    }
    for other in ["true", "[]", "{}"] {
        let body = format!(r#"{{"deactivateVersionAfter":{other}}}"#);
        domain.client.put(&domain.secret("a"), body).await.error(400, MALFORMED);
    }
    assert_eq!(domain.metadata("a").await["deactivateVersionAfter"], "0s");
}
