//! A token has to count when all of a request is there, not when its first bytes came.

use std::time::Duration;

use super::root_token;
use crate::{
    codes::*,
    support::{Domain, RawConnection, Server, both_engines},
};

both_engines!(
    a_token_that_is_revoked_while_a_body_is_on_its_way_does_not_count,
    a_token_that_counts_does_so_to_the_end_of_a_late_body,
);

const BODY: &str = r#"{"path":"late","version":{"data":{}}}"#;
/// The bytes of a body that come with the head of the request.
const AT_ONCE: usize = 5;
/// In this time, a server has looked at what has come so far.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends the first part of a write with a token.
async fn begin(server: &Server, domain: &Domain, token: &str) -> RawConnection {
    let mut connection = RawConnection::open(&server.api_url, server.tls(None)).await;
    let head = format!(
        "POST {}/secret HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        domain.base,
        BODY.len(),
        &BODY[..AT_ONCE]
    );
    connection.send(head.as_bytes()).await;
    tokio::time::sleep(PAUSE).await;
    connection
}

async fn a_token_that_is_revoked_while_a_body_is_on_its_way_does_not_count(server: Server) {
    let domain = server.domain().await;
    let token = root_token(&server, domain.okms_id).await;
    let mut connection = begin(&server, &domain, token.text.expose()).await;
    assert!(server.tokens.revoke(token.token.id).await.expect("a store"));
    connection.send(&BODY.as_bytes()[AT_ONCE..]).await;
    connection.answer().await.error(401, UNAUTHENTICATED);
    domain.client.get(&domain.secret("late")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_token_that_counts_does_so_to_the_end_of_a_late_body(server: Server) {
    let domain = server.domain().await;
    let token = root_token(&server, domain.okms_id).await;
    let mut connection = begin(&server, &domain, token.text.expose()).await;
    connection.send(&BODY.as_bytes()[AT_ONCE..]).await;
    connection.answer().await.ok();
    domain.client.get(&domain.secret("late")).await.ok();
}
