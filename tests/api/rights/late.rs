//! Rights are those of the moment when all of a request is there, not when its first bytes came.

use std::time::Duration;

use rustls::ClientConfig;

use super::{apply, identified, policies, resource, user};
use crate::{
    codes::{DOMAIN_NOT_FOUND, FORBIDDEN, SECRET_NOT_FOUND, UNAUTHENTICATED},
    support::{Domain, RawConnection, Server, both_engines},
};

both_engines!(
    a_credential_that_is_revoked_while_a_body_is_on_its_way_does_not_count,
    a_right_that_is_taken_away_while_a_body_is_on_its_way_does_not_count,
    a_right_that_is_given_while_a_body_is_on_its_way_counts,
    the_body_of_a_stranger_is_not_waited_for,
);

/// All writes with a body: method, what stands behind the address of the domain, body.
const WRITES: [(&str, &str, &str); 6] = [
    ("POST", "/secret", r#"{"path":"new","version":{"data":{}}}"#),
    ("PUT", "/secret/a", r#"{"version":{"data":{}}}"#),
    ("POST", "/secret/a/version", r#"{"data":{}}"#),
    ("PUT", "/secret/a/version", r#"{"data":{}}"#),
    ("PUT", "/secret/a/version/1", r#"{"state":"deactivated"}"#),
    ("PUT", "/secretConfig", r#"{"maxVersions":3}"#),
];

/// The bytes of a body that come with the head of the request.
const AT_ONCE: usize = 5;
/// In this time, a server has looked at what has come so far.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends the first part of each write.
async fn begin(server: &Server, domain: &Domain, tls: &ClientConfig) -> Vec<RawConnection> {
    let mut begun = Vec::new();
    for (method, below, body) in WRITES {
        let mut connection = RawConnection::open(&server.api_url, tls.clone()).await;
        let head = format!(
            "{method} {}{below} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            domain.base,
            body.len(),
            &body[..AT_ONCE]
        );
        connection.send(head.as_bytes()).await;
        begun.push(connection);
    }
    tokio::time::sleep(PAUSE).await;
    begun
}

/// Sends the rest of each write, which is then answered so.
async fn end(begun: Vec<RawConnection>, status: u16, code: i64) {
    for (mut connection, (method, below, body)) in begun.into_iter().zip(WRITES) {
        connection.send(&body.as_bytes()[AT_ONCE..]).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, status, "{method} {below}");
        answer.error(status, code);
    }
}

/// That none of the writes was done.
async fn assert_untouched(domain: &Domain) {
    domain.client.get(&domain.secret("new")).await.error(404, SECRET_NOT_FOUND);
    assert_eq!(domain.versions("a").await, [1]);
    let version = domain.client.get(&domain.secret("a/version/1")).await.ok();
    assert_eq!(version["state"], "active");
    let config = domain.client.get(&format!("{}/secretConfig", domain.base)).await.ok();
    assert_eq!(config["maxVersions"], 0);
}

async fn a_credential_that_is_revoked_while_a_body_is_on_its_way_does_not_count(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 365).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let tls = server.tls(Some((&issued.credential.certificate_pem, &key)));
    let begun = begin(&server, &domain, &tls).await;
    assert!(server.credentials.revoke(issued.credential.id).await.expect("a store"));
    end(begun, 401, UNAUTHENTICATED).await;
    assert_untouched(&domain).await;
}

async fn a_right_that_is_taken_away_while_a_body_is_on_its_way_does_not_count(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "p", &user("a"), &here, &[("allow", &["*"])]).await;
    let (certificate, key) = identified(&server, domain.okms_id, &[&user("a")]).await;
    let tls = server.tls(Some((&certificate, &key)));
    let begun = begin(&server, &domain, &tls).await;
    assert!(policies(&server).delete("p").await.expect("a store"));
    end(begun, 403, FORBIDDEN).await;
    assert_untouched(&domain).await;
}

async fn a_right_that_is_given_while_a_body_is_on_its_way_counts(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (certificate, key) = identified(&server, domain.okms_id, &[&user("a")]).await;
    let tls = server.tls(Some((&certificate, &key)));
    let begun = begin(&server, &domain, &tls).await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "p", &user("a"), &here, &[("allow", &["*"])]).await;
    for (mut connection, (method, below, body)) in begun.into_iter().zip(WRITES) {
        connection.send(&body.as_bytes()[AT_ONCE..]).await;
        assert_eq!(connection.answer().await.status, 200, "{method} {below}");
    }
}

/// Nor is that of a caller from another domain.
async fn the_body_of_a_stranger_is_not_waited_for(server: Server) {
    let domain = server.domain().await;
    let other = server.domain().await;
    for (tls, status, code) in
        [(server.tls(None), 401, UNAUTHENTICATED), (other.tls(&server), 404, DOMAIN_NOT_FOUND)]
    {
        for connection in begin(&server, &domain, &tls).await {
            // What is left of a body is read for two seconds, so that no answer is lost; a body that is
            // waited for has twenty.
            let answer = tokio::time::timeout(Duration::from_secs(10), connection.answer()).await;
            answer.expect("an answer").error(status, code);
        }
    }
}
