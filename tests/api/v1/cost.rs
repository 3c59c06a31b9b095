//! What a list costs.

use serde_json::json;

use super::data;
use crate::support::{Database, Domain, Proxy, Schema, Server, both_engines, postgres_is_at_hand};

both_engines!(a_folder_with_100_names_above_100_000_secrets_is_listed_whole);

/// Fills a domain with a secret, and a hundred folders with so many secrets each, all at once. They prove
/// nothing, so that one that is looked at closer than by its path would show.
async fn fill(server: &Server, domain: &Domain, each: u32) {
    domain.create("a", "{}").await;
    let copies = format!(
        "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
         deactivate_version_after, custom_metadata, current_version, oldest_version, \
         created_at, updated_at, incarnation) \
         WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers \
         WHERE n < 100 * {each} - 1) \
         SELECT okms_id, 'many/' || (100 + n / {each}) || '/' || (1000000 + n), 0, 0, '0s', '{{}}', \
         0, 0, created_at, updated_at, incarnation FROM secrets, numbers \
         WHERE path = 'a' AND okms_id = '{}'",
        domain.okms_id
    );
    assert_eq!(server.database.execute(&copies).await, 100 * u64::from(each));
}

fn folders() -> Vec<String> {
    (100..200).map(|number| format!("{number}/")).collect()
}

async fn a_folder_with_100_names_above_100_000_secrets_is_listed_whole(server: Server) {
    let domain = server.domain().await;
    fill(&server, &domain, 1_000).await;
    let read = data(&domain.kv_get("metadata/many?list=true").await);
    assert_eq!(read["keys"], json!(folders()));
    assert_eq!(data(&domain.kv_get("metadata").await)["keys"], json!(["a", "many/"]));
}

/// Counted by what PostgreSQL sends; the program does the same on SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_reads_as_much_among_100_000_secrets_as_among_2_000() {
    if !postgres_is_at_hand() {
        return;
    }
    let proxy = Proxy::start().await;
    let schema = Schema::create().await.through(proxy.base.clone());
    let server = Server::start_in(Database::Postgres(schema)).await;
    let (few, many) = (server.domain().await, server.domain().await);
    fill(&server, &few, 20).await;
    fill(&server, &many, 1_000).await;
    for (below, size, most) in [
        ("metadata/many?list=true", "100", 200_000),
        ("metadata/many?list=true", "10", 30_000),
        ("metadata", "100", 10_000),
    ] {
        let mut received = Vec::new();
        for domain in [&few, &many] {
            let list = async || {
                let headers = [("x-pagination-size", size)];
                data(&domain.client.page(&domain.kv(below), &headers).await)["keys"].clone()
            };
            // Once for connections and statements that are prepared, and once for the count.
            for _ in 0..8 {
                list().await;
            }
            let before = proxy.received();
            let keys = list().await;
            received.push(proxy.received() - before);
            assert!(!keys.as_array().expect("names").is_empty());
        }
        assert!(received[1] < most, "{below} {size}: {received:?}");
        assert!(received[1] * 10 < received[0] * 11 + 5_000, "{below} {size}: {received:?}");
    }
}
