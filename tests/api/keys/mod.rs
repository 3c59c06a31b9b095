//! Keys of domains, the store key and root keys.

mod apart;
mod before;
mod interrupted;
mod root;
mod rotation;

use serde_json::{Value, json};

use crate::support::{Domain, Server, both_engines};

both_engines!(
    a_key_that_had_its_uses_is_followed_by_another_and_still_opens,
    first_writes_from_many_sides_set_uses_aside_once,
    a_deleted_domain_is_gone_with_its_keys,
);

const USES: &str = "SELECT CAST(SUM(uses) AS BIGINT) FROM domain_keys";
const KEYS: &str = "SELECT COUNT(*) FROM domain_keys";
const NEWEST: &str = "SELECT CAST(MAX(generation) AS BIGINT) FROM domain_keys";

async fn a_key_that_had_its_uses_is_followed_by_another_and_still_opens(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    assert_eq!(server.database.number(NEWEST).await, 1);
    server.database.execute("UPDATE domain_keys SET uses = 268435456").await;
    // What this process has set aside is still its own; the next process finds nothing left.
    let mut other = server.another().await;
    server.stop().await;
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = other.client(identity);
    let version = json!({ "data": { "n": 2 } });
    client.post(&domain.secret("a/version"), version).await.ok();
    assert_eq!(other.database.number(NEWEST).await, 2);
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

/// Also where it has secrets under several keys, in whatever order the database follows references.
async fn a_deleted_domain_is_gone_with_its_keys(server: Server) {
    let (domain, kept) = (server.domain().await, server.domain().await);
    kept.create("a", "{}").await;
    keep_all_versions(&domain).await;
    for number in 0..10 {
        domain.create(&format!("s/{number}"), "{}").await;
        server.keys.rotate_domain(domain.okms_id).await.expect("a domain");
        domain.add_version("s/0").await;
    }
    let sealed = server.database.bytes("SELECT sealed_data FROM secret_versions").await;
    assert_eq!(sealed.len(), 21);
    server.domains.delete(domain.okms_id).await.expect("a domain");
    assert_eq!(server.database.number(KEYS).await, 1);
    domain.client.get(&domain.secret("a")).await.error(401, crate::codes::UNAUTHENTICATED);
    kept.client.get(&kept.secret("a")).await.ok();

    // What somebody has kept of it opens in no place any more, whatever is forged around it.
    let copy = match server.engine {
        crate::support::Engine::Sqlite => format!("X'{}'", hex(&sealed[0])),
        crate::support::Engine::Postgres => format!("'\\x{}'", hex(&sealed[0])),
    };
    let forged = format!("UPDATE secret_versions SET sealed_data = {copy}");
    assert_eq!(server.database.execute(&forged).await, 1);
    server.database.execute("UPDATE secrets SET path = 's/0'").await;
    let read = kept.client.get(&kept.secret("s/0?includeData=true")).await;
    read.error(500, crate::codes::INTERNAL);
}

/// A domain in which there is something of each kind: many versions, deactivated ones, deleted ones,
/// settings, a secret without versions that can be read.
pub async fn with_a_bit_of_everything(server: &Server) -> Domain {
    let domain = server.domain().await;
    keep_all_versions(&domain).await;
    for number in 0..6 {
        let path = format!("s/{number}");
        domain.create(&path, &json!({ "n": number, "v": 1 }).to_string()).await;
        for version in 2..=(number + 1) {
            let body = json!({ "data": { "n": number, "v": version } });
            domain.client.post(&domain.secret(&format!("{path}/version")), body).await.ok();
        }
    }
    domain.create("many", r#"{"v":1}"#).await;
    for version in 2..=70 {
        let body = json!({ "data": { "v": version } });
        domain.client.post(&domain.secret("many/version"), body).await.ok();
    }
    domain.set_state("s/3", 2, "deactivated").await.ok();
    domain.set_state("s/4", 3, "deleted").await.ok();
    let metadata = json!({ "metadata": { "custom_metadata": { "k": "v" }, "max_versions": 7 } });
    domain.client.put(&domain.secret("s/5"), metadata).await.ok();
    domain
}

/// Without this, the oldest go where there are many.
pub async fn keep_all_versions(domain: &Domain) {
    let config = format!("{}/secretConfig", domain.base);
    domain.client.put(&config, r#"{"max_versions":24000}"#).await.ok();
}

/// All answers of a domain's API that tell what there is.
pub async fn everything(server: &Server, domain: &Domain) -> Vec<Value> {
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = server.client(identity);
    let mut answers = Vec::new();
    let whole = [("X-Pagination-Size", "500")];
    let list = client.page(&format!("{}/secret", domain.base), &whole).await.ok();
    for secret in list.as_array().expect("a list") {
        let path = secret["path"].as_str().expect("a path");
        answers.push(client.get(&domain.secret(&format!("{path}?includeData=true"))).await.ok());
        let versions = domain.secret(&format!("{path}/version"));
        let versions = client.page(&versions, &whole).await.ok();
        for version in versions.as_array().expect("a list") {
            let target = format!("{path}/version/{}?includeData=true", version["id"]);
            answers.push(client.get(&domain.secret(&target)).await.ok());
        }
    }
    answers.push(list);
    answers
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
