//! Several tokens at once: on one connection, and in requests that race.

use futures_util::future::join_all;
use hyper::Method;
use serde_json::json;

use super::{
    DAY,
    login::{address, log_in, token_of as login_token, with_token},
    read_a, root_token, token_of,
};
use crate::{
    codes::*,
    rights,
    support::{Client, Server, both_engines},
};

both_engines!(
    requests_of_one_connection_are_each_who_their_token_says,
    a_renewal_does_not_bring_back_what_is_revoked_at_the_same_time,
    logins_beside_a_revocation_leave_nothing_that_counts,
);

async fn requests_of_one_connection_are_each_who_their_token_says(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let root = root_token(&server, domain.okms_id).await;
    let reader = token_of(&server, domain.okms_id, &[&rights::user("nobody")], DAY).await;
    let revoked = root_token(&server, domain.okms_id).await;
    assert!(server.tokens.revoke(revoked.token.id).await.expect("a store"));
    let bound = login_token(&domain).await;
    let http1 = Client::http1(&server.api_url, domain.tls(&server));
    let (domain, lookup) = (&domain, address(&domain, "auth/token/lookup-self"));
    let lookup = &lookup;
    let ask = |client: &Client, number: usize| {
        let client = client.clone();
        let (root, reader, revoked) = (&root, &reader, &revoked);
        let bound = &bound;
        async move {
            let (token, status, accessor) = match number % 5 {
                0 => (Some(root.text.expose()), 200, root.token.id.to_string()),
                1 => (Some(reader.text.expose()), 403, reader.token.id.to_string()),
                2 => (Some(revoked.text.expose()), 401, String::new()),
                3 => (Some(&**bound), 200, String::new()),
                _ => (None, 200, String::new()),
            };
            let headers: Vec<_> = token.map(|token| ("x-vault-token", token)).into_iter().collect();
            let read = super::get(&client, &domain.secret("a"), &headers).await;
            assert_eq!(read.status, status, "{number}");
            let known = super::get(&client, lookup, &headers).await;
            if status == 401 {
                known.error(403, TOKEN_REFUSED);
                return;
            }
            let data = known.ok()["data"].clone();
            assert_eq!(data["id"], json!(token.unwrap_or_default()), "{number}");
            if !accessor.is_empty() {
                assert_eq!(data["accessor"], accessor);
            }
        }
    };
    // One after the other, and as streams that are open at once.
    for number in 0..10 {
        ask(&http1, number).await;
    }
    ask(&domain.client, 4).await;
    join_all((0..60).map(|number| ask(&domain.client, number))).await;
}

async fn a_renewal_does_not_bring_back_what_is_revoked_at_the_same_time(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for _ in 0..10 {
        let token = login_token(&domain).await;
        server.clock.advance(std::time::Duration::from_secs(60));
        let ask = |below| with_token(&domain.client, Method::PUT, &domain, below, &token);
        let renew = || ask("auth/token/renew-self");
        let (revoked, ..) = tokio::join!(ask("auth/token/revoke-self"), renew(), renew(), renew());
        revoked.gone();
        read_a(&domain.client, &domain, &token).await.error(401, UNAUTHENTICATED);
        renew().await.error(403, TOKEN_REFUSED);
    }
}

async fn logins_beside_a_revocation_leave_nothing_that_counts(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for _ in 0..5 {
        let issued = server.credential(domain.okms_id, 30).await;
        let key = issued.private_key_pem.expect("a key");
        let client = server.client(Some((&issued.credential.certificate_pem, &key)));
        log_in(&client, &domain).await.ok();
        let logins = join_all((0..8).map(|_| log_in(&client, &domain)));
        let revocation = server.credentials.revoke(issued.credential.id);
        let (answers, revoked) = tokio::join!(logins, revocation);
        assert!(revoked.expect("a store"));
        for answer in answers {
            if answer.status == 200 {
                let token = answer.value()["auth"]["client_token"].clone();
                let token = token.as_str().expect("a token");
                read_a(&client, &domain, token).await.error(401, UNAUTHENTICATED);
            } else {
                answer.error(401, UNAUTHENTICATED);
            }
        }
        // Each was made before the revocation, which reached it, or not at all.
        let counting = "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL";
        assert_eq!(server.database.number(counting).await, 0);
    }
}
