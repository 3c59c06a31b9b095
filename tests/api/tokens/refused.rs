//! What is no token, and what contradicts itself: always a 401, never the rights of something else.

use super::{get, read_a, root_token};
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    what_is_no_token_is_refused_beside_a_certificate_that_counts_too,
    two_tokens_are_refused,
    empty_headers_say_nothing,
    a_certificate_that_does_not_count_is_not_made_up_for_by_a_token,
    a_certificate_of_another_domain_contradicts_a_token,
);

async fn what_is_no_token_is_refused_beside_a_certificate_that_counts_too(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let text = root_token(&server, domain.okms_id).await.text.expose().to_owned();
    // Well formed, and nobody's.
    let unknown = {
        let gone = root_token(&server, domain.okms_id).await;
        let id = gone.token.id;
        server.database.execute(&format!("DELETE FROM tokens WHERE token_id = '{id}'")).await;
        gone.text.expose().to_owned()
    };
    let long = text.repeat(100);
    let mut values = vec![
        ("authorization", "Bearer".to_owned()),
        ("authorization", "Basic dXNlcjpwYXNzd29yZA==".to_owned()),
        ("authorization", text.clone()),
        ("authorization", format!("Token {text}")),
        ("authorization", format!("Bearer {text} {text}")),
        ("authorization", format!("Bearer {text}, Bearer {text}")),
        ("x-vault-token", format!("Bearer {text}")),
        ("x-vault-token", format!("{text},{text}")),
        ("x-vault-token", format!("\t{text}\t{text}")),
    ];
    for token in [&text[1..], &text[..58], &unknown, &long, "hvs.CAESIA", "root", "%00", "é"] {
        values.push(("authorization", format!("Bearer {token}")));
        values.push(("x-vault-token", token.to_owned()));
    }
    for client in [&server.client(None), &domain.client] {
        for (name, value) in &values {
            let answer = get(client, &domain.secret("a"), &[(name, value)]).await;
            assert_eq!(answer.status, 401, "{name}: {value}");
            answer.error(401, UNAUTHENTICATED);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains("okmsd_"), "{}", answer.text());
        }
        let read = read_a(client, &domain, &text).await;
        read.ok();
        assert_eq!(read.header("www-authenticate"), None);
    }
    let nothing = server.client(None).get(&domain.secret("a")).await;
    assert_eq!(nothing.header("www-authenticate"), Some("Bearer"));
}

async fn two_tokens_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (one, other) =
        (root_token(&server, domain.okms_id).await, root_token(&server, domain.okms_id).await);
    let (one, other) = (one.text.expose(), other.text.expose());
    let bearer = format!("Bearer {one}");
    for client in [&server.client(None), &domain.client] {
        for headers in [
            [("authorization", &*bearer), ("x-vault-token", other)],
            [("authorization", &bearer), ("authorization", &bearer)],
            [("x-vault-token", one), ("x-vault-token", one)],
            [("x-vault-token", one), ("x-vault-token", "")],
            [("authorization", "Bearer x"), ("x-vault-token", one)],
            [("authorization", "Basic eDp5"), ("x-vault-token", one)],
        ] {
            let answer = get(client, &domain.secret("a"), &headers).await;
            answer.error(401, UNAUTHENTICATED);
        }
    }
}

async fn empty_headers_say_nothing(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    for headers in [[("authorization", "")], [("x-vault-token", "")], [("x-vault-token", "  ")]] {
        get(&domain.client, &domain.secret("a"), &headers).await.ok();
        let nobody = server.client(None);
        get(&nobody, &domain.secret("a"), &headers).await.error(401, UNAUTHENTICATED);
    }
    let bearer = format!("Bearer {}", token.text.expose());
    let headers = [("authorization", &*bearer), ("x-vault-token", "")];
    get(&server.client(None), &domain.secret("a"), &headers).await.ok();
}

async fn a_certificate_that_does_not_count_is_not_made_up_for_by_a_token(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    read_a(&domain.client, &domain, token.text.expose()).await.ok();
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    read_a(&domain.client, &domain, token.text.expose()).await.error(401, UNAUTHENTICATED);
    read_a(&server.client(None), &domain, token.text.expose()).await.ok();
}

async fn a_certificate_of_another_domain_contradicts_a_token(server: Server) {
    let (own, foreign) = (server.domain().await, server.domain().await);
    own.create("a", "{}").await;
    foreign.create("a", "{}").await;
    let token = root_token(&server, own.okms_id).await;
    for domain in [&own, &foreign] {
        let answer = read_a(&foreign.client, domain, token.text.expose()).await;
        answer.error(401, UNAUTHENTICATED);
    }
}
