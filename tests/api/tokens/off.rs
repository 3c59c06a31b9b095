//! A server whose operator turned tokens off.

use bytes::Bytes;
use hyper::Method;

use super::{get, headers, root_token};
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    where_tokens_are_off_each_is_refused_and_none_is_given,
    certificates_count_where_tokens_are_off,
);

async fn where_tokens_are_off_each_is_refused_and_none_is_given(server: Server) {
    let domain = server.domain().await;
    let token = root_token(&server, domain.okms_id).await;
    let login = format!("/api/{}/v1/auth/cert/login", domain.okms_id);
    let bound = domain.client.post(&login, "").await.ok();
    let bound = bound["auth"]["client_token"].as_str().expect("a token").to_owned();
    let off = server.another_without_tokens().await;
    let identity = Some((&*domain.certificate_pem, &*domain.private_key_pem));
    for client in [off.client(None), off.client(identity)] {
        for token in [token.text.expose(), &bound, "no-token"] {
            for (name, value) in headers(token) {
                let answer = get(&client, &domain.secret(""), &[(name, &value)]).await;
                let text = answer.error(401, TOKENS_OFF);
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                assert!(text.contains("takes no tokens"), "{text}");
            }
        }
    }
    off.client(identity).post(&login, "").await.error(403, NO_TOKENS);
    for below in ["lookup-self", "renew-self", "revoke-self"] {
        let address = format!("/api/{}/v1/auth/token/{below}", domain.okms_id);
        let method = if below == "lookup-self" { Method::GET } else { Method::POST };
        for (name, value) in headers(&bound) {
            let headers = [(name, &*value)];
            let client = off.client(identity);
            let answer = client.send(method.clone(), &address, &headers, Bytes::new()).await;
            let text = answer.error(403, NO_TOKENS);
            assert!(text.contains("takes and gives no tokens"), "{text}");
        }
    }
    off.client(None).post(&login, "").await.error(401, UNAUTHENTICATED);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM tokens").await, 2);
}

async fn certificates_count_where_tokens_are_off(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let off = server.another_without_tokens().await;
    let client = off.client(Some((&domain.certificate_pem, &domain.private_key_pem)));
    client.get(&domain.secret("a")).await.ok();
    let lookup = format!("/api/{}/v1/auth/token/lookup-self", domain.okms_id);
    client.get(&lookup).await.ok();
}
