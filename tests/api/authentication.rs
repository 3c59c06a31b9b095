//! Who may call: certificates, credentials and domains, at every operation.

use std::{sync::Arc, time::Duration};

use hyper::Version;
use okmsd::{
    domain::{Clock, Credential, CredentialId, Timestamp},
    pki::AccessKey,
    service::Credentials,
};
use serde_json::json;
use sqlx::Executor;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    codes::*,
    support::{Client, Engine, ManualClock, Server, both_engines},
};

both_engines!(
    a_certificate_is_asked_for_before_anything_else_is_said,
    a_foreign_domain_and_one_that_does_not_exist_answer_the_same,
    a_revoked_credential_is_refused_on_an_open_connection,
    an_expired_credential_is_refused_on_an_open_connection,
    a_certificate_of_a_removed_domain_is_refused,
    a_certificate_of_an_unknown_credential_drops_no_keys_of_its_domain,
    two_credentials_of_one_domain_see_the_same_secrets,
    the_domain_may_be_written_in_upper_case,
    what_is_no_uuid_is_no_domain,
    a_revoked_credential_has_no_successor,
    a_revocation_in_the_middle_of_a_renewal_ends_it,
);

async fn a_certificate_is_asked_for_before_anything_else_is_said(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let nobody = server.client(None);
    for address in [
        domain.secret("a"),
        domain.secret("b"),
        domain.secret("a//b"),
        domain.secret("a?version=0"),
        format!("/api/{}/v2/secret", Uuid::new_v4()),
        "/api/no-uuid/v2/secret".to_owned(),
        "/api/no-such-route".to_owned(),
        "/swagger/".to_owned(),
        "/swagger/openapi.json".to_owned(),
        "/".to_owned(),
    ] {
        nobody.get(&address).await.error(401, UNAUTHENTICATED);
        nobody.delete(&address).await.error(401, UNAUTHENTICATED);
        nobody.post(&address, "not JSON").await.error(401, UNAUTHENTICATED);
    }
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn a_foreign_domain_and_one_that_does_not_exist_answer_the_same(server: Server) {
    let (own, foreign) = (server.domain().await, server.domain().await);
    foreign.create("a", r#"{"password":"x"}"#).await;
    let unknown = format!("/api/{}/v2", Uuid::new_v4());
    for rest in ["/secret/a?includeData=true", "/secret/b", "/secret", "/secretConfig"] {
        let mut answers = Vec::new();
        for base in [&foreign.base, &unknown] {
            let answer = own.client.get(&format!("{base}{rest}")).await;
            answer.error(404, DOMAIN_NOT_FOUND);
            let mut headers = answer.headers.clone();
            headers.remove("x-request-id");
            headers.remove("date");
            answers.push((answer.text_without_request_id(), headers));
        }
        assert_eq!(answers[0], answers[1]);
    }
    let body = r#"{"path":"b","version":{"data":{}}}"#;
    own.client.post(&foreign.secret(""), body).await.error(404, DOMAIN_NOT_FOUND);
    own.client.delete(&foreign.secret("a")).await.error(404, DOMAIN_NOT_FOUND);
    let list = foreign.client.get(&foreign.secret("")).await.ok();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

async fn a_revoked_credential_is_refused_on_an_open_connection(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    assert_eq!(http1.get(&domain.secret("a")).await.version, Version::HTTP_11);
    let other = server.credential(domain.okms_id, 1).await;
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    for client in [&domain.client, &http1] {
        client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
        client.delete(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    }
    // A new connection gets no further, and no other credential is touched.
    let again = server.client(Some((&domain.certificate_pem, &domain.private_key_pem)));
    again.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    let key = other.private_key_pem.expect("a key");
    let other = server.client(Some((&other.credential.certificate_pem, &key)));
    other.get(&domain.secret("a")).await.ok();
}

async fn an_expired_credential_is_refused_on_an_open_connection(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 1).await;
    let key = issued.private_key_pem.expect("a key");
    let client = server.client(Some((&issued.credential.certificate_pem, &key)));
    let a_day = Duration::from_secs(86_400);
    // The connection is made while the certificate is valid.
    client.get(&domain.secret("a")).await.ok();
    server.clock.advance(a_day - Duration::from_millis(1));
    client.get(&domain.secret("a")).await.ok();
    server.clock.advance(Duration::from_millis(1));
    client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn a_certificate_of_a_removed_domain_is_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    server.domains.delete(domain.okms_id).await.expect("a removed domain");
    domain.client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn a_certificate_of_an_unknown_credential_drops_no_keys_of_its_domain(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 1).await;
    let key = issued.private_key_pem.expect("a key");
    let client = server.client(Some((&issued.credential.certificate_pem, &key)));
    // As after a restore from a backup that is older than it.
    let sql = format!("DELETE FROM credentials WHERE credential_id = '{}'", issued.credential.id);
    assert_eq!(server.database.execute(&sql).await, 1);
    let read = domain.secret("a?includeData=true");
    domain.client.get(&read).await.ok();
    let unwrapped = server.observed().key_operations().store_opens;
    client.get(&read).await.error(401, UNAUTHENTICATED);
    domain.client.get(&read).await.ok();
    assert_eq!(server.observed().key_operations().store_opens, unwrapped);
}

async fn two_credentials_of_one_domain_see_the_same_secrets(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    let issued = server.credential(domain.okms_id, 30).await;
    let key = issued.private_key_pem.expect("a key");
    let other = server.client(Some((&issued.credential.certificate_pem, &key)));
    let read = other.get(&domain.secret("a?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], json!({"n": 1}));
}

async fn the_domain_may_be_written_in_upper_case(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("a", "{}").await;
    let id = domain.okms_id.to_string();
    for base in [domain.base.clone(), format!("/v2/okms/resource/{id}")] {
        let upper = base.replace(&id, &id.to_uppercase());
        let read = domain.client.get(&format!("{upper}/secret/a")).await.ok();
        assert_eq!(read["metadata"], made["metadata"]);
    }
}

async fn what_is_no_uuid_is_no_domain(server: Server) {
    let domain = server.domain().await;
    let id = domain.okms_id.to_string();
    for other in [
        "x".to_owned(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}x"),
        id[1..].to_owned(),
        format!("{id}%00"),
        "%FF".to_owned(),
        "..".to_owned(),
    ] {
        for base in [format!("/api/{other}/v2"), format!("/v2/okms/resource/{other}")] {
            for rest in ["/secret", "/secret/a", "/secretConfig", "/secret/a/version/1"] {
                let answer = domain.client.get(&format!("{base}{rest}")).await;
                answer.error(400, MALFORMED);
            }
        }
    }
    let empty = domain.client.get("/api//v2/secret").await;
    assert!(matches!(empty.status, 400 | 404), "{}", empty.text());
}

async fn a_revoked_credential_has_no_successor(server: Server) {
    let domain = server.domain().await;
    let made = server.credential(domain.okms_id, 1).await.credential;
    let successor = |number: u8| Credential {
        id: CredentialId::new(Uuid::new_v4()),
        fingerprint: [number; 32],
        ..made.clone()
    };
    // Whatever was found out about the old one before: the write decides.
    assert!(server.store.insert_successor(successor(1), made.id).await.unwrap());
    let before = server.credentials.list(domain.okms_id).await.unwrap();
    assert!(before.iter().any(|it| it.id == made.id && it.revoked_at.is_none()));
    assert!(server.credentials.revoke(made.id).await.unwrap());
    let revoked = server.credentials.find(made.id).await.unwrap().unwrap();
    assert!(revoked.revoked_at.is_some());
    assert!(!server.store.insert_successor(successor(2), made.id).await.unwrap());
    let nobody = CredentialId::new(Uuid::new_v4());
    assert!(!server.store.insert_successor(successor(3), nobody).await.unwrap());
    let after = server.credentials.list(domain.okms_id).await.unwrap();
    assert_eq!(after.len(), before.len(), "no new row");
    // Nor does the attempt take the revocation back.
    assert_eq!(server.credentials.find(made.id).await.unwrap(), Some(revoked));
}

/// The renewal has looked at the old credential while the revocation was under way, not yet seen.
async fn a_revocation_in_the_middle_of_a_renewal_ends_it(server: Server) {
    let domain = server.domain().await;
    let old = domain.credential.id;
    let before = server.credentials.list(domain.okms_id).await.unwrap();
    let clock = Arc::new(AskedClock { clock: server.clock.clone(), asked: Notify::new() });
    let credentials = Credentials::new(server.store.clone(), clock.clone());
    let authority = server.authority.clone();
    let renewal = async move { credentials.renew(&authority, old, 1, AccessKey::Ecdsa).await };
    let sql = format!("UPDATE credentials SET revoked_at = 1 WHERE credential_id = '{old}'");
    let sql = sqlx::AssertSqlSafe(sql);
    let renewal = match server.engine {
        Engine::Sqlite => {
            let mut connection = server.database.sqlite().await;
            connection.execute("BEGIN IMMEDIATE").await.unwrap();
            connection.execute(sql).await.unwrap();
            let renewal = tokio::spawn(renewal);
            clock.asked.notified().await;
            connection.execute("COMMIT").await.unwrap();
            renewal
        }
        Engine::Postgres => {
            let mut connection = server.database.postgres().await;
            connection.execute("BEGIN").await.unwrap();
            connection.execute(sql).await.unwrap();
            let renewal = tokio::spawn(renewal);
            clock.asked.notified().await;
            // Its write has begun before the revocation counts.
            let waiting = "SELECT COUNT(*) FROM pg_stat_activity \
                           WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))";
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap()
                == 0
            {
                assert!(!renewal.is_finished());
            }
            connection.execute("COMMIT").await.unwrap();
            renewal
        }
    };
    let error = renewal.await.unwrap().map(|_| ()).unwrap_err();
    assert!(format!("{error:?}").contains("it is revoked"), "{error:?}");
    assert_eq!(server.credentials.list(domain.okms_id).await.unwrap().len(), before.len());
}

/// Tells when it is asked, which a renewal does between its look at the old credential and its write.
#[derive(Debug)]
struct AskedClock {
    clock: Arc<ManualClock>,
    asked: Notify,
}

impl Clock for AskedClock {
    fn now(&self) -> Timestamp {
        self.asked.notify_one();
        self.clock.now()
    }
}
