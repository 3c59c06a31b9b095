//! Tokens that count.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use super::{DAY, get, headers, login::log_in, read_a, root_token, token_of};
use crate::{
    authorities::{bind, client as client_of},
    codes::*,
    rights,
    support::{Ca, Client, Server, both_engines},
};

both_engines!(
    a_token_counts_in_both_headers_with_and_without_a_certificate,
    a_token_has_the_rights_of_its_identities_and_of_nobody_else,
    a_token_of_one_request_does_not_count_for_the_next_on_the_connection,
    a_token_is_recorded_by_its_id,
    a_refused_token_that_is_known_is_recorded_by_its_id,
    a_token_that_ends_is_refused_from_that_moment_on,
    a_revoked_token_is_refused_on_an_open_connection_and_on_another_replica,
    a_token_counts_in_its_own_domain_only,
    a_token_ends_with_its_domain,
    a_cursor_of_one_token_is_none_of_another_beside_the_same_certificate,
    the_tokens_that_a_certificate_gets_for_itself_are_one_caller,
);

async fn a_token_counts_in_both_headers_with_and_without_a_certificate(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"n":1}"#).await;
    let token = root_token(&server, domain.okms_id).await;
    let (nobody, tls) = (server.client(None), server.tls(None));
    let http1 = Client::http1(&server.api_url, tls);
    let central = format!("/v2/okms/resource/{}/secret/a?includeData=true", domain.okms_id);
    for client in [&nobody, &http1, &domain.client] {
        for address in [&domain.secret("a?includeData=true"), &central] {
            for (name, value) in headers(token.text.expose()) {
                let read = get(client, address, &[(name, &value)]).await.ok();
                assert_eq!(read["version"]["data"], json!({"n": 1}));
            }
        }
        // The scheme is written in any case; both headers may hold the same token.
        let bearer = format!("bEARER  {}", token.text.expose());
        let both = [("authorization", &*bearer), ("x-vault-token", token.text.expose())];
        get(client, &domain.secret("a"), &both).await.ok();
    }
    let vault = ("x-vault-token", token.text.expose());
    let json = ("content-type", "application/json");
    let body = Bytes::from(r#"{"path":"b","version":{"data":{}}}"#);
    nobody.send(Method::POST, &domain.secret(""), &[vault, json], body).await.ok();
    get(&nobody, "/swagger/openapi.json", &[vault]).await.ok();
    domain.client.get(&domain.secret("b")).await.ok();
}

async fn a_token_has_the_rights_of_its_identities_and_of_nobody_else(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let user = rights::user("reader");
    let token = token_of(&server, domain.okms_id, &[&user], DAY).await;
    let text = token.text.expose();
    // Beside the certificate of the root, too.
    for client in [&server.client(None), &domain.client] {
        read_a(client, &domain, text).await.error(403, FORBIDDEN);
    }
    let resources = [rights::resource(domain.okms_id, "")];
    rights::apply(&server, "reader", &user, &resources, &[("allow", &[rights::GET])]).await;
    for client in [&server.client(None), &domain.client] {
        read_a(client, &domain, text).await.ok();
        let address = domain.secret("a?includeData=true");
        let headers = [("x-vault-token", text)];
        get(client, &address, &headers).await.error(403, FORBIDDEN);
        let address = domain.secret("a");
        let deleted = client.send(Method::DELETE, &address, &headers, Bytes::new()).await;
        deleted.error(403, FORBIDDEN);
    }
}

async fn a_token_of_one_request_does_not_count_for_the_next_on_the_connection(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    let nobody = server.client(None);
    let http1 = Client::http1(&server.api_url, server.tls(None));
    for client in [&nobody, &http1] {
        for _ in 0..3 {
            read_a(client, &domain, token.text.expose()).await.ok();
            client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
        }
    }
}

async fn a_token_is_recorded_by_its_id(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    for (client, certificate) in [(&server.client(None), false), (&domain.client, true)] {
        let answer = read_a(client, &domain, token.text.expose()).await;
        let id = answer.header("x-request-id").expect("an id");
        let records = server.records();
        let record = records.iter().find(|record| record["request_id"] == id).expect("a record");
        assert_eq!(record["token_id"], token.token.id.to_string());
        assert_eq!(record["identities"], json!([super::ROOT]));
        assert_eq!(record.get("credential_id"), None, "not its rights: {record}");
        assert_eq!(record.get("certificate").is_some(), certificate, "{record}");
    }
}

async fn a_refused_token_that_is_known_is_recorded_by_its_id(server: Server) {
    let (domain, foreign) = (server.domain().await, server.domain().await);
    let ended = token_of(&server, domain.okms_id, &[super::ROOT], 60).await;
    let revoked = root_token(&server, domain.okms_id).await;
    let changed = root_token(&server, domain.okms_id).await;
    let good = root_token(&server, domain.okms_id).await;
    server.clock.advance(Duration::from_secs(60));
    assert!(server.tokens.revoke(revoked.token.id).await.expect("a store"));
    let id = changed.token.id;
    let set = format!("UPDATE tokens SET description = 'x' WHERE token_id = '{id}'");
    assert_eq!(server.database.execute(&set).await, 1);
    let nobody = server.client(None);
    for (client, token, is_known) in [
        (&nobody, &ended, true),
        (&nobody, &revoked, true),
        (&nobody, &changed, true),
        // The certificate is what is wrong.
        (&foreign.client, &good, true),
        (&nobody, &good, false),
    ] {
        let answer = read_a(client, &domain, token.text.expose()).await;
        let id = answer.header("x-request-id").expect("an id");
        let records = server.records();
        let record = records.iter().find(|record| record["request_id"] == id).expect("a record");
        if is_known {
            assert_eq!(answer.status, 401);
            assert_eq!(record["refused_token_id"], token.token.id.to_string());
            assert_eq!(record.get("token_id"), None, "{record}");
            assert_eq!(record.get("identities"), None, "{record}");
            let beside = record.get("refused_credential_id").and_then(|id| id.as_str());
            let presented = std::ptr::eq(client, &raw const foreign.client)
                .then(|| foreign.credential.id.to_string());
            assert_eq!(beside, presented.as_deref(), "{record}");
        } else {
            assert_eq!(record.get("refused_token_id"), None, "{record}");
            assert_eq!(record["token_id"], token.token.id.to_string());
        }
    }
}

async fn a_token_that_ends_is_refused_from_that_moment_on(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    let nobody = server.client(None);
    server.clock.advance(Duration::from_secs(DAY) - Duration::from_millis(1));
    read_a(&nobody, &domain, token.text.expose()).await.ok();
    server.clock.advance(Duration::from_millis(1));
    for client in [&nobody, &domain.client] {
        read_a(client, &domain, token.text.expose()).await.error(401, UNAUTHENTICATED);
    }
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn a_revoked_token_is_refused_on_an_open_connection_and_on_another_replica(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let other = server.another().await;
    let (token, kept) =
        (root_token(&server, domain.okms_id).await, root_token(&server, domain.okms_id).await);
    let clients = [server.client(None), other.client(None), domain.client.clone()];
    for client in &clients {
        read_a(client, &domain, token.text.expose()).await.ok();
    }
    assert!(server.tokens.revoke(token.token.id).await.expect("a store"));
    for client in &clients {
        read_a(client, &domain, token.text.expose()).await.error(401, UNAUTHENTICATED);
        read_a(client, &domain, kept.text.expose()).await.ok();
    }
}

async fn a_token_counts_in_its_own_domain_only(server: Server) {
    let (own, foreign) = (server.domain().await, server.domain().await);
    foreign.create("a", r#"{"password":"CANARY"}"#).await;
    let token = root_token(&server, own.okms_id).await;
    let answer = read_a(&server.client(None), &foreign, token.text.expose()).await;
    answer.error(404, DOMAIN_NOT_FOUND);
}

async fn a_token_ends_with_its_domain(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    server.domains.delete(domain.okms_id).await.expect("a removed domain");
    let answer = read_a(&server.client(None), &domain, token.text.expose()).await;
    answer.error(401, UNAUTHENTICATED);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM tokens").await, 0);
}

async fn a_cursor_of_one_token_is_none_of_another_beside_the_same_certificate(server: Server) {
    let domain = server.domain().await;
    for number in 0..11 {
        domain.create(&format!("a{number}"), "{}").await;
    }
    let (one, other) =
        (root_token(&server, domain.okms_id).await, root_token(&server, domain.okms_id).await);
    let page = |token: &str, cursor: Option<String>| {
        let (client, address, token) = (domain.client.clone(), domain.secret(""), token.to_owned());
        async move {
            let mut headers = vec![("x-vault-token", &*token), ("x-pagination-size", "10")];
            headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
            get(&client, &address, &headers).await
        }
    };
    let first = page(one.text.expose(), None).await;
    let cursor = first.header("x-pagination-cursor-next").expect("a cursor").to_owned();
    page(other.text.expose(), Some(cursor.clone())).await.error(400, MALFORMED);
    page(one.text.expose(), Some(cursor)).await.ok();
}

/// Or it would have as many places among those who wait for a list as it asks for tokens.
async fn the_tokens_that_a_certificate_gets_for_itself_are_one_caller(server: Server) {
    let domain = server.domain().await;
    for number in 0..11 {
        domain.create(&format!("a{number}"), "{}").await;
    }
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).expect("an authority");
    let user = rights::user("alice");
    let resources = [rights::resource(domain.okms_id, ""), rights::resource(domain.okms_id, "/*")];
    rights::apply(&server, "alice", &user, &resources, &[("allow", &["*"])]).await;
    let alice = client_of(&server, &ca.client(&user));
    let page = async |cursor: Option<String>| {
        let answer = log_in(&alice, &domain).await.ok();
        let token = answer["auth"]["client_token"].as_str().expect("a token").to_owned();
        let mut headers = vec![("x-vault-token", &*token), ("x-pagination-size", "10")];
        headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
        get(&alice, &domain.secret(""), &headers).await
    };
    let first = page(None).await;
    let cursor = first.header("x-pagination-cursor-next").expect("a cursor").to_owned();
    let second = page(Some(cursor)).await.ok();
    assert_eq!(second.as_array().map(Vec::len), Some(1), "{second}");
}
