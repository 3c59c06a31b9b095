//! Rows of tokens prove themselves: whoever can write to the database makes no token of them.

use std::time::Duration;

use okmsd::{
    crypto::{RootKey, TokenKind, TokenText},
    service::OtherRootKey,
};

use super::{DAY, ROOT, read_a, root_token, token_of};
use crate::{
    codes::*,
    rights,
    support::{Server, both_engines},
};

both_engines!(
    a_row_that_somebody_changed_is_worth_nothing,
    a_row_that_somebody_made_is_worth_nothing,
    a_revocation_cannot_be_taken_back,
    a_lost_key_is_not_made_anew_by_a_look,
    tokens_outlive_the_root_key_and_the_keys_of_their_domain,
);

async fn a_row_that_somebody_changed_is_worth_nothing(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    domain.create("a", "{}").await;
    let nobody = server.client(None);
    let token = token_of(&server, domain.okms_id, &[&rights::user("reader")], DAY).await;
    let (id, text) = (token.token.id, token.text.expose());
    // Without rights so far.
    read_a(&nobody, &domain, text).await.error(403, FORBIDDEN);
    let foreign = other.okms_id;
    for (column, value) in [
        ("identity_urns", format!("'[\"{ROOT}\"]'")),
        ("identity_urns", format!("'[\"{}\",\"{ROOT}\"]'", rights::user("reader"))),
        ("expires_at", "expires_at + 1".to_owned()),
        ("created_at", "created_at - 1".to_owned()),
        ("description", "'another'".to_owned()),
        ("okms_id", format!("'{foreign}'")),
        ("bound_fingerprint", "token_hash".to_owned()),
    ] {
        let sql = format!(
            "SELECT CAST({column} AS TEXT) FROM tokens \
             WHERE token_id = '{id}' AND {column} IS NOT NULL"
        );
        let was = server
            .database
            .texts(&sql)
            .await
            .first()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let set = async |value: &str| {
            let sql = format!("UPDATE tokens SET {column} = {value} WHERE token_id = '{id}'");
            assert_eq!(server.database.execute(&sql).await, 1, "{column}");
        };
        set(&value).await;
        read_a(&nobody, &domain, text).await.error(401, UNAUTHENTICATED);
        read_a(&nobody, &other, text).await.error(401, UNAUTHENTICATED);
        match was {
            None => set("NULL").await,
            Some(was) if column.ends_with("_at") => set(&was).await,
            Some(was) => set(&format!("'{was}'")).await,
        }
        read_a(&nobody, &domain, text).await.error(403, FORBIDDEN);
    }
}

async fn a_revocation_cannot_be_taken_back(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let nobody = server.client(None);
    let token = root_token(&server, domain.okms_id).await;
    assert!(server.tokens.revoke(token.token.id).await.expect("a store"));
    server.database.execute("UPDATE tokens SET revoked_at = NULL").await;
    read_a(&nobody, &domain, token.text.expose()).await.error(401, UNAUTHENTICATED);
}

async fn a_lost_key_is_not_made_anew_by_a_look(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    server.stop().await;
    assert_eq!(server.database.execute("DELETE FROM token_keys").await, 1);
    let mut next = server.another().await;
    let nobody = next.client(None);
    read_a(&nobody, &domain, token.text.expose()).await.error(503, UNAVAILABLE);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM token_keys").await, 0);
    next.stop().await;
}

async fn a_row_that_somebody_made_is_worth_nothing(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let nobody = server.client(None);
    let token = root_token(&server, domain.okms_id).await;
    read_a(&nobody, &domain, token.text.expose()).await.ok();
    // A copy of a good row, but for a token of one's own.
    let made = TokenText::generate(TokenKind::Personal).expect("randomness");
    let hash: String = made.hash().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let literal = match server.database.url().starts_with("sqlite") {
        true => format!("x'{hash}'"),
        false => format!("'\\x{hash}'::bytea"),
    };
    let sql = format!(
        "INSERT INTO tokens (token_id, okms_id, token_hash, identity_urns, description, created_at, \
         expires_at, mac) SELECT '7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b', okms_id, {literal}, \
         identity_urns, description, created_at, expires_at, mac FROM tokens"
    );
    assert_eq!(server.database.execute(&sql).await, 1);
    read_a(&nobody, &domain, made.expose()).await.error(401, UNAUTHENTICATED);
    read_a(&nobody, &domain, token.text.expose()).await.ok();
}

async fn tokens_outlive_the_root_key_and_the_keys_of_their_domain(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let before = root_token(&server, domain.okms_id).await;
    let new = RootKey::generate().expect("randomness");
    let keys = server.keys_of().await;
    keys.rotate_domain(domain.okms_id).await.expect("a rotation");
    keys.rotate_root(&new, &OtherRootKey::None).await.expect("a rotation");
    // This server has the key of tokens in memory; the next one opens it anew.
    let nobody = server.client(None);
    read_a(&nobody, &domain, before.text.expose()).await.ok();
    server.stop().await;
    server.root_key = new.to_text().to_string();
    let mut next = server.another().await;
    let nobody = next.client(None);
    read_a(&nobody, &domain, before.text.expose()).await.ok();
    let after = root_token(&next, domain.okms_id).await;
    read_a(&nobody, &domain, after.text.expose()).await.ok();
    next.clock.advance(Duration::from_secs(DAY));
    read_a(&nobody, &domain, after.text.expose()).await.error(401, UNAUTHENTICATED);
    next.stop().await;
}
