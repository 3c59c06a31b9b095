//! What is recorded of requests that are no operation, or come to nothing; and of many at once.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;
use okmsd::audit;
use serde_json::Value;

use crate::{
    codes::*,
    support::{Answer, RawConnection, Server, both_engines},
};

both_engines!(
    what_is_refused_is_recorded_too,
    a_secret_pasted_into_the_wrong_place_is_not_recorded,
    a_refused_certificate_is_recorded_by_its_fingerprint_and_its_credential,
    a_caller_that_goes_away_leaves_a_record,
    what_was_done_is_recorded_though_its_caller_holds_back_a_body,
    many_requests_at_once_have_a_record_each_in_a_chain_without_gaps,
    two_servers_write_two_chains,
);

#[track_caller]
fn record(server: &Server, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").expect("an id");
    let mut found: Vec<_> =
        server.records().into_iter().filter(|record| record["request_id"] == id).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[track_caller]
fn verified(folder: &Path, chains: usize) {
    let reports = audit::verify(folder, &[]).expect("an audit log");
    assert_eq!(reports.len(), chains);
    for report in reports {
        assert_eq!(report.broken, None, "{report:?}");
    }
}

async fn what_is_refused_is_recorded_too(server: Server) {
    let domain = server.domain().await;
    let secret = domain.secret("team/a");

    let missing = domain.client.get(&secret).await;
    missing.error(404, SECRET_NOT_FOUND);
    let of_missing = record(&server, &missing);
    assert_eq!(of_missing["operation"], "GetSecretV2");
    assert_eq!(of_missing["error_code"], SECRET_NOT_FOUND);
    assert_eq!(of_missing["route"], "/api/{okmsId}/v2/secret/{path}");
    let urn = format!("urn:v1:eu:resource:okms:{}/secret/team%2Fa", domain.okms_id);
    assert_eq!(of_missing["resource_urn"], urn.as_str());
    assert_eq!(of_missing["identities"][0], "urn:v1:eu:identity:account:test");
    assert_eq!(of_missing["certificate"].as_str().map(str::len), Some(64));

    let malformed = domain.client.post(&domain.secret(""), "{").await;
    assert_eq!(malformed.status, 400);
    assert_eq!(record(&server, &malformed)["operation"], "PostSecretV2");

    // Also where the body cannot be read, which comes behind the path.
    for (method, target) in [
        (Method::PUT, secret.clone()),
        (Method::POST, format!("{secret}/version")),
        (Method::PUT, format!("{secret}/version/1")),
    ] {
        for body in ["{", "", "[]"] {
            let malformed = domain.client.json(method.clone(), &target, body).await;
            assert_eq!(malformed.status, 400, "{method} {target}");
            assert_eq!(record(&server, &malformed)["resource_urn"], urn.as_str(), "{method}");
        }
    }

    let nobody = server.client(None).get(&secret).await;
    nobody.error(401, UNAUTHENTICATED);
    let of_nobody = record(&server, &nobody);
    assert_eq!((&of_nobody["credential_id"], &of_nobody["status"]), (&Value::Null, &401.into()));

    let foreign = server.domain().await.client.get(&secret).await;
    foreign.error(404, DOMAIN_NOT_FOUND);
    let of_foreign = record(&server, &foreign);
    assert_ne!(of_foreign["credential_id"], of_missing["credential_id"]);
    let tried = format!("urn:v1:eu:resource:okms:{}", domain.okms_id);
    assert_eq!(of_foreign["resource_urn"], tried.as_str(), "what it tried, and no secret of it");

    let unknown = domain.client.get("/api/nothing").await;
    unknown.error(404, ROUTE_NOT_FOUND);
    let of_unknown = record(&server, &unknown);
    assert_eq!((&of_unknown["route"], &of_unknown["operation"]), (&Value::Null, &Value::Null));

    let other = domain.client.json(Method::PATCH, &secret, "{}").await;
    other.error(405, METHOD_NOT_ALLOWED);
    assert_eq!(record(&server, &other)["method"], "PATCH");

    let head = domain.client.send(Method::HEAD, &secret, &[], Bytes::new()).await;
    let of_head = record(&server, &head);
    assert_eq!(
        (&of_head["method"], &of_head["operation"]),
        (&"HEAD".into(), &"GetSecretV2".into())
    );

    let page = domain.client.get("/swagger/").await;
    assert_eq!(record(&server, &page)["route"], "/swagger/");
    // The public page reaches nothing, and is not recorded.
    let before = server.records().len();
    server.docs_client().get("/swagger/").await;
    assert_eq!(server.records().len(), before);
}

async fn a_secret_pasted_into_the_wrong_place_is_not_recorded(server: Server) {
    let domain = server.domain().await;
    let client = &domain.client;
    let secret = domain.secret("a");
    for path in [
        "/CANARY".to_owned(),
        "/api/CANARY/v2/secret".to_owned(),
        format!("/api/{}/CANARY", domain.okms_id),
        domain.secret("CANARY%20CANARY"),
        domain.secret("CANARY//CANARY"),
        domain.secret("a/version/CANARY"),
        format!("{secret}?version=CANARY"),
        format!("{secret}?CANARY=1"),
    ] {
        let answer = client.get(&path).await;
        assert!(!record(&server, &answer).to_string().contains("CANARY"), "{path}");
    }
    let method = Method::from_bytes(b"CANARY").expect("a method");
    let answer = client.json(method, &secret, "CANARY").await;
    assert_eq!(record(&server, &answer)["method"], "other");
    let headers =
        [("x-request-id", "CANARY"), ("cookie", "CANARY"), ("x-pagination-cursor", "CANARY")];
    let answer = client.page(&domain.secret(""), &headers).await;
    assert!(!record(&server, &answer).to_string().contains("CANARY"));
    let body = r#"{"path":"b","metadata":{"customMetadata":{"k":"CANARY"}},"version":{"data":{"k":"CANARY"}}}"#;
    let made = client.post(&domain.secret(""), body).await;
    made.ok();
    assert!(!record(&server, &made).to_string().contains("CANARY"));
}

async fn a_refused_certificate_is_recorded_by_its_fingerprint_and_its_credential(server: Server) {
    let (revoked, expired, gone) =
        (server.domain().await, server.domain().await, server.domain().await);
    assert!(server.credentials.revoke(revoked.credential.id).await.expect("a store"));
    server.domains.delete(gone.okms_id).await.expect("a store");
    for (domain, claims) in [(&revoked, true), (&gone, true), (&expired, false)] {
        if !claims {
            // Its certificate ends with it, so that no authority vouches for what it says.
            domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
            server.clock.advance(Duration::from_secs(400 * 86_400));
        }
        let answer = domain.client.get(&domain.secret("a")).await;
        answer.error(401, UNAUTHENTICATED);
        let record = record(&server, &answer);
        let fingerprint: String =
            domain.credential.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(record["certificate"], fingerprint.as_str());
        let id = record["refused_credential_id"].as_str();
        assert_eq!(id, claims.then(|| domain.credential.id.to_string()).as_deref());
        assert_eq!((record.get("credential_id"), record.get("identities")), (None, None));
    }
}

async fn what_was_done_is_recorded_though_its_caller_holds_back_a_body(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let request = format!(
        "DELETE {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n",
        domain.kv("data/a")
    );
    let mut connection = RawConnection::open(&server.api_url, domain.tls(&server)).await;
    connection.send(request.as_bytes()).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let active = "SELECT COUNT(*) FROM secret_versions WHERE deactivated_at IS NULL";
    while server.database.number(active).await > 0 {
        assert!(Instant::now() < deadline, "a deletion");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(connection);
    let deletion = || server.records().into_iter().find(|record| record["method"] == "DELETE");
    while deletion().is_none() {
        assert!(Instant::now() < deadline, "a record");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let record = deletion().expect("a record");
    assert_eq!((&record["status"], record.get("abandoned")), (&204.into(), None), "{record}");
}

async fn a_caller_that_goes_away_leaves_a_record(server: Server) {
    let domain = server.domain().await;
    // Promises a body and does not send it.
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 10\r\nexpect: 100-continue\r\n\r\n",
        domain.secret("")
    );
    let mut connection = RawConnection::open(&server.api_url, domain.tls(&server)).await;
    connection.send(request.as_bytes()).await;
    // The request has begun, and only now the caller goes.
    connection.until_continued().await;
    drop(connection);
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.records().is_empty() {
        assert!(Instant::now() < deadline, "a record");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let records = server.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["operation"], "PostSecretV2");
    assert_eq!(records[0]["credential_id"], domain.credential.id.to_string());
    // The server finds either first: that nobody is there, or that a body breaks off.
    match records[0].get("status") {
        None => assert_eq!(records[0]["abandoned"], true, "{records:?}"),
        status => assert_eq!(status, Some(&400.into()), "{records:?}"),
    }
}

async fn many_requests_at_once_have_a_record_each_in_a_chain_without_gaps(mut server: Server) {
    let domain = server.domain().await;
    let requests = (0..200).map(|number| {
        let (client, address) = (domain.client.clone(), domain.secret(""));
        tokio::spawn(async move {
            let body = format!(r#"{{"path":"s/{}","version":{{"data":{{}}}}}}"#, number % 150);
            client.post(&address, body).await.header("x-request-id").expect("an id").to_owned()
        })
    });
    let mut ids = HashSet::new();
    for request in requests.collect::<Vec<_>>() {
        assert!(ids.insert(request.await.expect("no panic")));
    }
    verified(server.audit_folder.path(), 1);
    server.stop().await;
    verified(server.audit_folder.path(), 1);
    let records = server.records();
    let recorded: HashSet<_> = records
        .iter()
        .map(|record| record["request_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!((records.len(), recorded), (200, ids));
}

async fn two_servers_write_two_chains(mut server: Server) {
    let domain = server.domain().await;
    let mut other = server.another().await;
    let client = other.client(Some((&domain.certificate_pem, &domain.private_key_pem)));
    domain.client.get(&domain.secret("")).await.ok();
    client.get(&domain.secret("")).await.ok();
    server.stop().await;
    other.stop().await;
    verified(server.audit_folder.path(), 2);
    assert_eq!(server.records().len(), 2);
}
