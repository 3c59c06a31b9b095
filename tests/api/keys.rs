//! Keys of domains.

use serde_json::json;

use crate::support::{Server, both_engines};

both_engines!(
    a_key_that_had_its_uses_is_followed_by_another_and_still_opens,
    first_writes_from_many_sides_set_uses_aside_once,
    a_deleted_domain_is_gone_with_its_keys,
);

const USES: &str = "SELECT CAST(SUM(uses) AS BIGINT) FROM domain_keys";
const KEYS: &str = "SELECT COUNT(*) FROM domain_keys";

async fn a_key_that_had_its_uses_is_followed_by_another_and_still_opens(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    assert_eq!(server.database.number(KEYS).await, 1);
    server.database.execute("UPDATE domain_keys SET uses = 268435456").await;
    // What this process has set aside is still its own; the next process finds nothing left.
    let mut other = server.another().await;
    server.stop().await;
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = other.client(identity);
    let version = json!({ "data": { "n": 2 } });
    client.post(&domain.secret("a/version"), version).await.ok();
    assert_eq!(other.database.number(KEYS).await, 2);
    for number in 1..=2 {
        let read =
            client.get(&domain.secret(&format!("a/version/{number}?includeData=true"))).await;
        assert_eq!(read.ok()["data"], json!({ "n": number }));
    }
    other.stop().await;
}

async fn first_writes_from_many_sides_set_uses_aside_once(server: Server) {
    let domain = server.domain().await;
    let address = format!("{}/secret", domain.base);
    let writes = (0..30).map(|number| {
        let body = json!({ "path": format!("s/{number}"), "version": { "data": {} } });
        let (client, address) = (domain.client.clone(), address.clone());
        async move { client.post(&address, body).await.ok() }
    });
    futures_util::future::join_all(writes).await;
    assert_eq!(server.database.number(USES).await, 65_536);
}

async fn a_deleted_domain_is_gone_with_its_keys(server: Server) {
    let (domain, kept) = (server.domain().await, server.domain().await);
    domain.create("a", "{}").await;
    kept.create("a", "{}").await;
    server.domains.delete(domain.okms_id).await.expect("a domain");
    assert_eq!(server.database.number(KEYS).await, 1);
    domain.client.get(&domain.secret("a")).await.error(401, crate::codes::UNAUTHENTICATED);
    kept.client.get(&kept.secret("a")).await.ok();
}
