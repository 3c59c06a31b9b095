//! Rows of tokens prove themselves: whoever can write to the database makes no token of them.

use std::time::Duration;

use okmsd::{
    crypto::{RootKey, TokenKind, TokenText},
    service::{NewToken, OtherRootKey},
};

use super::{DAY, ROOT, login::log_in, read_a, root_token, token_of};
use crate::{
    codes::*,
    rights,
    support::{Server, both_engines},
};

both_engines!(
    a_row_that_somebody_changed_is_worth_nothing,
    a_row_that_somebody_made_is_worth_nothing,
    fields_swapped_between_two_tokens_are_worth_nothing,
    a_list_tells_what_somebody_changed_and_goes_on,
    a_revocation_cannot_be_taken_back,
    a_revocation_of_a_credential_taken_back_brings_no_token_back,
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

/// What stands in one row is of no use in another one.
async fn fields_swapped_between_two_tokens_are_worth_nothing(server: Server) {
    let mut tokens = Vec::new();
    for number in 0..2 {
        let domain = server.domain().await;
        domain.create("a", "{}").await;
        server.clock.advance(Duration::from_secs(1));
        let new = NewToken {
            okms_id: domain.okms_id,
            identity_urns: vec![ROOT.to_owned(), rights::user(&format!("user{number}"))],
            description: format!("{number}"),
            validity_seconds: DAY,
        };
        let personal = server.tokens.create(new).await.expect("a token").text.expose().to_owned();
        let bound = super::login::token_of(&domain).await;
        tokens.push((domain, [personal, bound]));
    }
    let columns = [
        "token_id",
        "okms_id",
        "token_hash",
        "identity_urns",
        "description",
        "created_at",
        "expires_at",
        "revoked_at",
        "bound_fingerprint",
        "credential_id",
        "token_key_id",
        "mac",
    ];
    server.database.execute("CREATE TABLE saved AS SELECT * FROM tokens").await;
    let all_read = async |status: &dyn Fn(usize) -> u16, what: &str| {
        for (domain, texts) in &tokens {
            for (kind, text) in texts.iter().enumerate() {
                let answer = read_a(&domain.client, domain, text).await;
                assert_eq!(answer.status, status(kind), "{what} of {kind}: {}", answer.text());
            }
        }
    };
    all_read(&|_| 200, "nothing").await;
    for swapped in
        columns.into_iter().filter(|column| !["revoked_at", "token_key_id"].contains(column))
    {
        let list = columns.join(", ");
        let values = columns.map(|column| {
            let of = if column == swapped { "other" } else { "own" };
            format!("{of}.{column}")
        });
        server.database.execute("DELETE FROM tokens").await;
        let sql = format!(
            "INSERT INTO tokens ({list}) SELECT {} FROM saved own JOIN saved other \
             ON own.token_id <> other.token_id \
             AND (own.credential_id IS NULL) = (other.credential_id IS NULL)",
            values.join(", ")
        );
        assert_eq!(server.database.execute(&sql).await, 4, "{swapped}");
        // Some fields are the same in both, or not there.
        let same = match swapped {
            "identity_urns" | "description" => Some(1),
            "bound_fingerprint" | "credential_id" => Some(0),
            _ => None,
        };
        all_read(&|kind| if same == Some(kind) { 200 } else { 401 }, swapped).await;
        server.database.execute("DELETE FROM tokens").await;
        let back = format!("INSERT INTO tokens ({list}) SELECT {list} FROM saved");
        server.database.execute(&back).await;
        all_read(&|_| 200, swapped).await;
    }
    server.database.execute("UPDATE tokens SET token_key_id = 'another'").await;
    all_read(&|_| 401, "token_key_id").await;
}

async fn a_list_tells_what_somebody_changed_and_goes_on(server: Server) {
    let domain = server.domain().await;
    let mut ids = Vec::new();
    for change in [
        None,
        Some("identity_urns = '[]'"),
        Some("expires_at = expires_at + 1"),
        Some("mac = token_hash"),
        Some("mac = substr(token_hash, 1, 5)"),
        Some("identity_urns = '{'"),
        Some("token_key_id = 'another'"),
        None,
    ] {
        server.clock.advance(Duration::from_millis(1));
        let id = root_token(&server, domain.okms_id).await.token.id;
        if let Some(change) = change {
            let set = format!("UPDATE tokens SET {change} WHERE token_id = '{id}'");
            assert_eq!(server.database.execute(&set).await, 1, "{change}");
        }
        ids.push((id.to_string(), change.is_none()));
    }
    let listed = server.tokens.list(domain.okms_id).await.expect("a list");
    let listed: Vec<_> =
        listed.into_iter().map(|listed| (listed.id, listed.token.is_some())).collect();
    assert_eq!(listed, ids);
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

async fn a_revocation_of_a_credential_taken_back_brings_no_token_back(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 30).await;
    let key = issued.private_key_pem.expect("a key");
    let identity = (&*issued.credential.certificate_pem, &**key);
    let answer = log_in(&server.client(Some(identity)), &domain).await.ok();
    let token = answer["auth"]["client_token"].as_str().expect("a token");
    assert!(server.credentials.revoke(issued.credential.id).await.expect("a store"));
    for table in ["credentials", "tokens"] {
        let take_back = format!("UPDATE {table} SET revoked_at = NULL WHERE revoked_at > 0");
        assert_eq!(server.database.execute(&take_back).await, 1, "{table}");
    }
    let mut next = server.another().await;
    let client = next.client(Some(identity));
    client.get(&domain.secret("a")).await.ok();
    read_a(&client, &domain, token).await.error(401, UNAUTHENTICATED);
    next.stop().await;
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
