//! What only a look into the database shows, or a hand in it can bring about.

use serde_json::json;

use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    deleted_and_pruned_data_is_gone_from_the_database,
    a_deactivated_version_keeps_its_data_in_the_database,
    version_numbers_end_at_24000,
    a_secret_without_versions_is_read_and_written,
    storage_that_is_gone_is_an_error_and_no_success,
);

const WITH_DATA: &str = "SELECT COUNT(*) FROM secret_versions WHERE sealed_data IS NOT NULL";
const ALL: &str = "SELECT COUNT(*) FROM secret_versions";

async fn deleted_and_pruned_data_is_gone_from_the_database(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"maxVersions":3}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    domain.add_version("a").await;
    domain.add_version("a").await;
    assert_eq!(server.database.number(WITH_DATA).await, 3);
    domain.set_state("a", 2, "deleted").await.ok();
    assert_eq!(server.database.number(WITH_DATA).await, 2);
    assert_eq!(server.database.number(ALL).await, 3);
    domain.add_version("a").await;
    domain.add_version("a").await;
    assert_eq!(server.database.number(ALL).await, 3);
    domain.client.delete(&domain.secret("a")).await.gone();
    assert_eq!(server.database.number(ALL).await, 0);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM secrets").await, 0);
}

async fn a_deactivated_version_keeps_its_data_in_the_database(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    domain.set_state("a", 1, "deactivated").await.ok();
    assert_eq!(server.database.number(WITH_DATA).await, 1);
}

async fn version_numbers_end_at_24000(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let secret = "UPDATE secrets SET current_version = 23999, oldest_version = 23999";
    server.database.execute(secret).await;
    server.database.execute("UPDATE secret_versions SET version = 23999").await;
    server.prove_rows(domain.okms_id).await;
    let last = domain.add_version("a").await;
    assert_eq!(last["id"], 24_000);
    let metadata = domain.metadata("a").await;
    let data = r#"{"data":{}}"#;
    let post = domain.client.post(&domain.secret("a/version?cas=24000"), data).await;
    post.error(400, VERSIONS_EXHAUSTED);
    let body = r#"{"version":{"data":{}},"maxVersions":1}"#;
    domain.client.put(&domain.secret("a"), body).await.error(400, VERSIONS_EXHAUSTED);
    assert_eq!(domain.metadata("a").await, metadata);
    // Metadata still can be written, and the version read.
    domain.client.put(&domain.secret("a?cas=24000"), r#"{"maxVersions":5}"#).await.ok();
    domain.client.get(&domain.secret("a/version/24000")).await.ok();
}

async fn a_secret_without_versions_is_read_and_written(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    server.database.execute("UPDATE secrets SET current_version = 0").await;
    server.database.execute("DELETE FROM secret_versions").await;
    server.prove_rows(domain.okms_id).await;
    let read = domain.client.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["metadata"]["currentVersion"], 0);
    assert_eq!(read.get("version"), None);
    let list = domain.client.get(&domain.secret("")).await.ok();
    assert_eq!(list, json!([read]));
    assert_eq!(domain.client.get(&domain.secret("a/version")).await.ok(), json!([]));
    domain.client.get(&domain.secret("a?version=1")).await.error(404, VERSION_NOT_FOUND);
    let body = r#"{"version":{"data":{}}}"#;
    domain.client.put(&domain.secret("a?cas=1"), body).await.error(400, CAS_MISMATCH);
    let put = domain.client.put(&domain.secret("a?cas=0"), body).await.ok();
    assert_eq!(put["metadata"]["currentVersion"], 1);
    domain.client.put(&domain.secret("a?cas=0"), body).await.error(400, CAS_MISMATCH);
}

async fn storage_that_is_gone_is_an_error_and_no_success(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    server.store.close().await;
    let create = r#"{"path":"b","version":{"data":{}}}"#;
    for answer in [
        domain.client.get(&domain.secret("a")).await,
        domain.client.get(&domain.secret("")).await,
        domain.client.post(&domain.secret(""), create).await,
        domain.client.delete(&domain.secret("a")).await,
    ] {
        let text = answer.error(503, UNAVAILABLE);
        assert!(!text.contains("pool") && !text.contains("sql"), "{text}");
    }
}
