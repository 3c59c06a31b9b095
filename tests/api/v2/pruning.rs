//! How many versions are kept.

use serde_json::json;

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    ten_versions_are_kept_by_default,
    the_secret_says_before_the_domain_and_the_domain_before_the_default,
    lowering_the_number_prunes_at_the_next_write,
    deactivated_and_deleted_versions_are_pruned_like_others,
    the_number_in_the_body_counts_for_the_version_of_the_same_request,
    a_single_version_can_be_kept,
);

async fn add_versions(domain: &Domain, path: &str, count: usize) {
    for _ in 0..count {
        domain.add_version(path).await;
    }
}

async fn check_kept(domain: &Domain, path: &str, kept: std::ops::RangeInclusive<u64>) {
    assert_eq!(domain.versions(path).await, kept.clone().collect::<Vec<_>>());
    let metadata = domain.metadata(path).await;
    assert_eq!(metadata["currentVersion"], *kept.end());
    let oldest = if *kept.start() == 1 { 0 } else { *kept.start() };
    assert_eq!(metadata["oldestVersion"], oldest);
}

async fn ten_versions_are_kept_by_default(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    add_versions(&domain, "a", 9).await;
    check_kept(&domain, "a", 1..=10).await;
    add_versions(&domain, "a", 1).await;
    check_kept(&domain, "a", 2..=11).await;
    domain.client.put(&domain.secret("a"), r#"{"version":{"data":{}}}"#).await.ok();
    check_kept(&domain, "a", 3..=12).await;
    for gone in [1, 2, 13] {
        let version = domain.secret(&format!("a/version/{gone}"));
        domain.client.get(&version).await.error(404, VERSION_NOT_FOUND);
        let secret = domain.secret(&format!("a?version={gone}"));
        domain.client.get(&secret).await.error(404, VERSION_NOT_FOUND);
        domain.set_state("a", gone, "active").await.error(404, VERSION_NOT_FOUND);
    }
}

async fn the_secret_says_before_the_domain_and_the_domain_before_the_default(server: Server) {
    let domain = server.domain().await;
    let config = format!("{}/secretConfig", domain.base);
    domain.client.put(&config, r#"{"maxVersions":3}"#).await.ok();
    domain.create("a", "{}").await;
    let body = r#"{"path":"b","version":{"data":{}},"maxVersions":5}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    add_versions(&domain, "a", 5).await;
    add_versions(&domain, "b", 5).await;
    check_kept(&domain, "a", 4..=6).await;
    check_kept(&domain, "b", 2..=6).await;
    // Not shown in the secret's own settings.
    assert_eq!(domain.metadata("a").await["maxVersions"], 0);

    // Back to what the domain says.
    domain.client.put(&domain.secret("b"), r#"{"maxVersions":0}"#).await.ok();
    add_versions(&domain, "b", 1).await;
    check_kept(&domain, "b", 5..=7).await;
    // And where the domain says nothing, ten; what is gone stays gone.
    domain.client.put(&config, r#"{"maxVersions":0}"#).await.ok();
    add_versions(&domain, "b", 1).await;
    check_kept(&domain, "b", 5..=8).await;
    add_versions(&domain, "b", 6).await;
    check_kept(&domain, "b", 5..=14).await;
    add_versions(&domain, "b", 1).await;
    check_kept(&domain, "b", 6..=15).await;
}

async fn lowering_the_number_prunes_at_the_next_write(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    add_versions(&domain, "a", 6).await;
    domain.client.put(&domain.secret("a"), r#"{"maxVersions":2}"#).await.ok();
    check_kept(&domain, "a", 1..=7).await;
    let put = domain.client.put(&domain.secret("a"), r#"{"version":{"data":{}}}"#).await.ok();
    assert_eq!(put["metadata"]["oldestVersion"], 7);
    check_kept(&domain, "a", 7..=8).await;
}

async fn deactivated_and_deleted_versions_are_pruned_like_others(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"maxVersions":3}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    add_versions(&domain, "a", 2).await;
    domain.set_state("a", 1, "deleted").await.ok();
    domain.set_state("a", 2, "deactivated").await.ok();
    check_kept(&domain, "a", 1..=3).await;
    add_versions(&domain, "a", 2).await;
    check_kept(&domain, "a", 3..=5).await;
}

async fn the_number_in_the_body_counts_for_the_version_of_the_same_request(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    add_versions(&domain, "a", 4).await;
    let body = r#"{"metadata":{"maxVersions":2},"version":{"data":{}}}"#;
    domain.client.put(&domain.secret("a"), body).await.ok();
    check_kept(&domain, "a", 5..=6).await;
}

async fn a_single_version_can_be_kept(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{"n":1}},"maxVersions":1}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    check_kept(&domain, "a", 1..=1).await;
    domain.client.post(&domain.secret("a/version"), r#"{"data":{"n":2}}"#).await.ok();
    check_kept(&domain, "a", 2..=2).await;
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 2}));
}
