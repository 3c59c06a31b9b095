//! Made-up tokens without end, and those who have one that counts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use okmsd::crypto::{TokenKind, TokenText};
use sqlx::{Connection, Executor};

use super::{read_a, root_token};
use crate::{
    codes::*,
    support::{Client, Engine, Server, both_engines, postgres_is_at_hand},
};

both_engines!(a_flood_of_made_up_tokens_keeps_nobody_of_another_address_waiting);

fn made_up() -> String {
    TokenText::generate(TokenKind::Personal).expect("randomness").expose().to_owned()
}

async fn a_flood_of_made_up_tokens_keeps_nobody_of_another_address_waiting(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let honest = Client::from_address(&server.api_url, server.tls(None), [127, 0, 0, 2]);
    let known = root_token(&server, domain.okms_id).await;
    let clients: Vec<_> = (0..20).map(|_| server.client(None)).collect();
    let (server, domain, done) = (&server, &domain, &AtomicBool::new(false));
    let flood = join_all(clients.iter().map(|client| async move {
        let mut statuses = Vec::new();
        while !done.load(Ordering::SeqCst) {
            statuses.push(read_a(client, domain, &made_up()).await.status);
        }
        statuses
    }));
    let served = async {
        for _ in 0..20 {
            // Each is a token that the server meets for the first time, and one that it knows.
            let new = root_token(server, domain.okms_id).await;
            for token in [&new, &known] {
                read_a(&honest, domain, token.text.expose()).await.ok();
            }
        }
        done.store(true, Ordering::SeqCst);
    };
    let (refused, ()) = tokio::join!(flood, served);
    for status in refused.into_iter().flatten() {
        assert!(matches!(status, 401 | 429), "{status}");
    }
    // Nothing is held against the address afterwards.
    read_a(&clients[0], domain, known.text.expose()).await.ok();
    read_a(&clients[0], domain, &made_up()).await.error(401, UNAUTHENTICATED);
}

/// On PostgreSQL, where a test can hold a table: look-ups begin and do not end.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_hang_are_those_of_one_address_one_at_a_time() {
    if !postgres_is_at_hand() {
        return;
    }
    let server = Server::start(Engine::Postgres).await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    let (flood, honest) = (
        server.client(None),
        Client::from_address(&server.api_url, server.tls(None), [127, 0, 0, 2]),
    );
    // One that counted and is there no more is as good as made up.
    let gone = root_token(&server, domain.okms_id).await;
    read_a(&flood, &domain, gone.text.expose()).await.ok();
    let delete = format!("DELETE FROM tokens WHERE token_id = '{}'", gone.token.id);
    assert_eq!(server.database.execute(&delete).await, 1);
    read_a(&flood, &domain, gone.text.expose()).await.error(401, UNAUTHENTICATED);
    let mut holding = server.database.postgres().await;
    holding.execute("BEGIN").await.expect("a transaction");
    holding.execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let first = {
        let (client, address) = (flood.clone(), domain.secret("a"));
        tokio::spawn(async move {
            let bearer = format!("Bearer {}", made_up());
            super::get(&client, &address, &[("authorization", &bearer)]).await
        })
    };
    until_waiting_for_tokens(&server, 1).await;
    let asked = [&token, &token, &token, &token, &gone];
    for refused in join_all(asked.map(|one| read_a(&flood, &domain, one.text.expose()))).await {
        refused.error(429, TOO_MANY_REQUESTS);
        assert_eq!(refused.header("retry-after"), Some("2"));
    }
    let release = async {
        // The look-up of the other address begins beside the one that hangs.
        until_waiting_for_tokens(&server, 2).await;
        holding.execute("COMMIT").await.expect("to let go");
        holding.close().await.expect("to close");
    };
    let (served, ()) = tokio::join!(read_a(&honest, &domain, token.text.expose()), release);
    served.ok();
    first.await.expect("no panic").error(401, UNAUTHENTICATED);
    read_a(&flood, &domain, token.text.expose()).await.ok();
}

/// Waits until that many statements wait for the table of tokens.
async fn until_waiting_for_tokens(server: &Server, count: i64) {
    let waiting =
        "SELECT COUNT(*) FROM pg_locks WHERE relation = 'tokens'::regclass AND NOT granted";
    let reached = async {
        while server.database.number(waiting).await != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Long, because tests share a machine.
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    reached.unwrap_or_else(|_| panic!("{count} wait for it"));
}
