//! `/auth/cert/login` and `/auth/token`: the short-lived tokens of certificates.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{get, read_a, root_token};
use crate::{
    authorities::{bind, client as client_of},
    codes::*,
    rights,
    support::{Answer, Ca, Client, Domain, RawConnection, Server, both_engines},
};

both_engines!(
    a_certificate_gets_a_token_that_counts_with_it_alone,
    a_login_needs_a_certificate_and_a_domain_of_its_own,
    a_login_does_not_look_at_tokens,
    a_revoked_credential_ends_its_tokens_at_once,
    an_expired_credential_ends_its_tokens,
    a_token_of_a_login_ends_after_an_hour_and_is_renewed_for_a_day,
    a_personal_token_is_not_renewable,
    a_token_revokes_itself,
    a_certificate_has_nothing_to_renew_or_revoke,
    each_caller_looks_itself_up,
    ended_tokens_of_logins_do_not_fill_the_store,
    personal_tokens_are_kept_for_a_month_after_they_ended,
    logins_without_end_leave_a_hundred_tokens,
    a_bound_token_that_lost_its_binding_in_the_store_does_not_count,
    a_certificate_of_another_authority_gets_a_token_and_keeps_the_rights_it_has_at_each_request,
    a_slow_body_of_a_login_does_not_bring_back_what_was_revoked,
);

pub(super) fn address(domain: &Domain, below: &str) -> String {
    format!("/api/{}/v1/{below}", domain.okms_id)
}

pub(super) async fn log_in(client: &Client, domain: &Domain) -> Answer {
    client.post(&address(domain, "auth/cert/login"), r#"{"name":"any"}"#).await
}

/// A token of a login.
pub(super) async fn token_of(domain: &Domain) -> String {
    let answer = log_in(&domain.client, domain).await.ok();
    answer["auth"]["client_token"].as_str().expect("a token").to_owned()
}

pub(super) async fn with_token(
    client: &Client,
    method: Method,
    domain: &Domain,
    below: &str,
    token: &str,
) -> Answer {
    let headers = [("x-vault-token", token)];
    client.send(method, &address(domain, below), &headers, Bytes::new()).await
}

async fn renew(domain: &Domain, token: &str) -> Answer {
    with_token(&domain.client, Method::PUT, domain, "auth/token/renew-self", token).await
}

async fn a_certificate_gets_a_token_that_counts_with_it_alone(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let given = log_in(&domain.client, &domain).await;
    let answer = given.ok();
    let auth = &answer["auth"];
    for (field, value) in [
        ("lease_duration", json!(3_600)),
        ("renewable", json!(true)),
        ("token_type", json!("service")),
    ] {
        assert_eq!(auth[field], value, "{field}");
    }
    assert_eq!(answer["data"], Value::Null);
    let token = auth["client_token"].as_str().expect("a token");
    assert!(token.starts_with("okmsd_login_"));
    // On any connection of that certificate.
    let again = server.client(Some((&domain.certificate_pem, &domain.private_key_pem)));
    for client in [&domain.client, &again] {
        read_a(client, &domain, token).await.ok();
    }
    // Stolen: with no certificate, and with others of the same domain and the same rights.
    let issued = server.credential(domain.okms_id, 30).await;
    let key = issued.private_key_pem.expect("a key");
    let other = server.client(Some((&issued.credential.certificate_pem, &key)));
    other.get(&domain.secret("a")).await.ok();
    for client in [&server.client(None), &other] {
        read_a(client, &domain, token).await.error(401, UNAUTHENTICATED);
    }
    // It is recorded with the credential whose rights it has.
    let read = read_a(&domain.client, &domain, token).await;
    let id = read.header("x-request-id").expect("an id");
    let records = server.records();
    let record = records.iter().find(|record| record["request_id"] == id).expect("a record");
    assert_eq!(record["credential_id"], domain.credential.id.to_string());
    assert_eq!(record["token_id"], auth["accessor"]);
    let id = given.header("x-request-id").expect("an id");
    let record = records.iter().find(|record| record["request_id"] == id).expect("a record");
    assert_eq!(record["issued_token_id"], auth["accessor"]);
    assert_eq!(record.get("token_id"), None);
}

async fn a_login_needs_a_certificate_and_a_domain_of_its_own(server: Server) {
    let (own, foreign) = (server.domain().await, server.domain().await);
    log_in(&server.client(None), &own).await.error(401, UNAUTHENTICATED);
    log_in(&own.client, &foreign).await.error(404, DOMAIN_NOT_FOUND);
    let token = root_token(&server, own.okms_id).await;
    let nobody = server.client(None);
    let answer =
        with_token(&nobody, Method::POST, &own, "auth/cert/login", token.text.expose()).await;
    answer.error(401, UNAUTHENTICATED);
    assert!(server.credentials.revoke(own.credential.id).await.expect("a store"));
    log_in(&own.client, &own).await.error(401, UNAUTHENTICATED);
    let bound = "SELECT COUNT(*) FROM tokens WHERE bound_fingerprint IS NOT NULL";
    assert_eq!(server.database.number(bound).await, 0, "no token was given");
}

async fn a_login_does_not_look_at_tokens(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let old = token_of(&domain).await;
    server.clock.advance(Duration::from_secs(3_600));
    read_a(&domain.client, &domain, &old).await.error(401, UNAUTHENTICATED);
    // As a client does whose token has ended.
    let answer = with_token(&domain.client, Method::PUT, &domain, "auth/cert/login", &old).await;
    let token = answer.ok()["auth"]["client_token"].as_str().expect("a token").to_owned();
    read_a(&domain.client, &domain, &token).await.ok();
}

async fn a_revoked_credential_ends_its_tokens_at_once(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = token_of(&domain).await;
    read_a(&domain.client, &domain, &token).await.ok();
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    for client in [&domain.client, &server.client(None)] {
        read_a(client, &domain, &token).await.error(401, UNAUTHENTICATED);
    }
    renew(&domain, &token).await.error(403, TOKEN_REFUSED);
    let tokens = server.tokens.list(domain.okms_id).await.expect("a list");
    assert!(
        tokens.len() == 1
            && tokens[0].token.as_ref().is_some_and(|token| token.revoked_at.is_some()),
        "{tokens:?}"
    );
}

async fn an_expired_credential_ends_its_tokens(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let issued = server.credential(domain.okms_id, 1).await;
    let key = issued.private_key_pem.expect("a key");
    let client = server.client(Some((&issued.credential.certificate_pem, &key)));
    client.get(&domain.secret("a")).await.ok();
    server.clock.advance(Duration::from_secs(86_400 - 60));
    let answer = log_in(&client, &domain).await.ok();
    assert_eq!(answer["auth"]["lease_duration"], 60, "it does not say more than is true");
    let token = answer["auth"]["client_token"].as_str().expect("a token");
    let renewed = with_token(&client, Method::POST, &domain, "auth/token/renew-self", token).await;
    assert_eq!(renewed.ok()["auth"]["lease_duration"], 60);
    server.clock.advance(Duration::from_secs(60));
    read_a(&client, &domain, token).await.error(401, UNAUTHENTICATED);
}

async fn a_token_of_a_login_ends_after_an_hour_and_is_renewed_for_a_day(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (token, left) = (token_of(&domain).await, token_of(&domain).await);
    let half = Duration::from_secs(1_800);
    for _ in 0..46 {
        server.clock.advance(half);
        let renewed = renew(&domain, &token).await.ok();
        assert_eq!(renewed["auth"]["client_token"], token);
        assert_eq!(renewed["auth"]["lease_duration"], 3_600);
    }
    server.clock.advance(half);
    assert_eq!(renew(&domain, &token).await.ok()["auth"]["lease_duration"], 1_800);
    server.clock.advance(half - Duration::from_millis(1));
    read_a(&domain.client, &domain, &token).await.ok();
    server.clock.advance(Duration::from_millis(1));
    for token in [&token, &left] {
        read_a(&domain.client, &domain, token).await.error(401, UNAUTHENTICATED);
        renew(&domain, token).await.error(403, TOKEN_REFUSED);
    }
}

async fn a_personal_token_is_not_renewable(server: Server) {
    let domain = server.domain().await;
    let token = root_token(&server, domain.okms_id).await;
    let text = renew(&domain, token.text.expose()).await.error(400, MALFORMED);
    assert!(text.contains("not renewable"), "{text}");
}

async fn a_token_revokes_itself(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let personal = root_token(&server, domain.okms_id).await.text.expose().to_owned();
    let bound = token_of(&domain).await;
    for (token, method) in [(&personal, Method::POST), (&bound, Method::PUT)] {
        read_a(&domain.client, &domain, token).await.ok();
        let revoked =
            with_token(&domain.client, method, &domain, "auth/token/revoke-self", token).await;
        revoked.gone();
        read_a(&domain.client, &domain, token).await.error(401, UNAUTHENTICATED);
    }
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn a_certificate_has_nothing_to_renew_or_revoke(server: Server) {
    let domain = server.domain().await;
    for below in ["auth/token/renew-self", "auth/token/revoke-self"] {
        let answer = domain.client.put(&address(&domain, below), "{}").await;
        answer.error(400, MALFORMED);
    }
    domain.client.get(&domain.secret("")).await.ok();
}

async fn each_caller_looks_itself_up(server: Server) {
    let domain = server.domain().await;
    let personal = root_token(&server, domain.okms_id).await;
    let below = "auth/token/lookup-self";
    let text = personal.text.expose();
    let nobody = server.client(None);
    let data = with_token(&nobody, Method::GET, &domain, below, text).await.ok()["data"].clone();
    let end = personal.token.expires_at.to_rfc3339_nanos();
    for (field, value) in [
        ("id", json!(text)),
        ("accessor", json!(personal.token.id.to_string())),
        ("type", json!("service")),
        ("ttl", json!(86_400)),
        ("creation_ttl", json!(86_400)),
        ("explicit_max_ttl", json!(86_400)),
        ("expire_time", json!(end)),
        ("renewable", json!(false)),
        ("policies", json!([])),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    let bound = token_of(&domain).await;
    let data = with_token(&domain.client, Method::GET, &domain, below, &bound).await.ok();
    let data = &data["data"];
    assert_eq!((&data["ttl"], &data["renewable"]), (&json!(3_600), &json!(true)));
    assert_eq!(data["meta"]["credential_id"], domain.credential.id.to_string());
    // A renewal changes when it ends, not how long it was to count at first and will at most.
    server.clock.advance(Duration::from_secs(600));
    renew(&domain, &bound).await.ok();
    let renewed = with_token(&domain.client, Method::GET, &domain, below, &bound).await.ok();
    for data in [data, &renewed["data"]] {
        assert_eq!((&data["ttl"], &data["creation_ttl"]), (&json!(3_600), &json!(3_600)));
        assert_eq!(data["explicit_max_ttl"], 86_400);
    }
    let data = domain.client.get(&address(&domain, below)).await.ok()["data"].clone();
    assert_eq!((&data["id"], &data["accessor"]), (&json!(""), &json!("")));
    assert_eq!((&data["type"], &data["renewable"]), (&json!("service"), &json!(false)));
    assert_eq!(data["expire_time"], domain.credential.expires_at.to_rfc3339_nanos());
    assert_eq!(data["ttl"], 365 * 86_400 - 600);
    assert_eq!((&data["creation_ttl"], &data["explicit_max_ttl"]), (&data["ttl"], &json!(0)));
    nobody.get(&address(&domain, below)).await.error(401, UNAUTHENTICATED);
}

async fn ended_tokens_of_logins_do_not_fill_the_store(server: Server) {
    let domain = server.domain().await;
    root_token(&server, domain.okms_id).await;
    for _ in 0..3 {
        token_of(&domain).await;
    }
    let count = "SELECT COUNT(*) FROM tokens";
    assert_eq!(server.database.number(count).await, 4);
    server.clock.advance(Duration::from_secs(2 * 86_400));
    token_of(&domain).await;
    // The personal one is kept, so that the list tells of it.
    assert_eq!(server.database.number(count).await, 2);
}

async fn personal_tokens_are_kept_for_a_month_after_they_ended(server: Server) {
    let (domain, day) = (server.domain().await, Duration::from_secs(86_400));
    let listed = async || {
        let listed = server.tokens.list(domain.okms_id).await.expect("a list");
        listed.into_iter().map(|listed| listed.id).collect::<Vec<_>>()
    };
    let made = async |days| {
        let made = super::token_of(&server, domain.okms_id, &[super::ROOT], days * super::DAY);
        made.await.token.id.to_string()
    };
    let (ends, revoked, stays) = (made(1).await, made(365).await, made(365).await);
    server.clock.advance(day);
    assert!(server.tokens.revoke(revoked.parse().expect("an id")).await.expect("a store"));
    server.clock.advance(30 * day);
    let next = made(365).await;
    let mut all = vec![ends, revoked, stays.clone(), next.clone()];
    all[..3].sort_unstable();
    assert_eq!(listed().await, all);
    server.clock.advance(Duration::from_millis(1));
    let last = made(365).await;
    assert_eq!(listed().await, [stays, next, last]);
}

async fn logins_without_end_leave_a_hundred_tokens(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (first, other) = (token_of(&domain).await, server.domain().await);
    let others = token_of(&other).await;
    for _ in 0..100 {
        server.clock.advance(Duration::from_millis(1));
        log_in(&domain.client, &domain).await.ok();
    }
    assert_eq!(server.database.number("SELECT COUNT(*) FROM tokens").await, 101);
    read_a(&domain.client, &domain, &first).await.error(401, UNAUTHENTICATED);
    other.create("a", "{}").await;
    read_a(&other.client, &other, &others).await.ok();
}

async fn a_bound_token_that_lost_its_binding_in_the_store_does_not_count(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = token_of(&domain).await;
    server.database.execute("UPDATE tokens SET bound_fingerprint = NULL").await;
    let headers = [("x-vault-token", &*token)];
    get(&domain.client, &domain.secret("a"), &headers).await.error(500, INTERNAL);
    get(&server.client(None), &domain.secret("a"), &headers).await.error(500, INTERNAL);
    server.database.execute("UPDATE tokens SET credential_id = NULL").await;
    get(&server.client(None), &domain.secret("a"), &headers).await.error(401, UNAUTHENTICATED);
}

async fn a_certificate_of_another_authority_gets_a_token_and_keeps_the_rights_it_has_at_each_request(
    server: Server,
) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).expect("an authority");
    let user = rights::user("alice");
    let alice = client_of(&server, &ca.client(&user));
    let answer = log_in(&alice, &domain).await.ok();
    let token = answer["auth"]["client_token"].as_str().expect("a token");
    read_a(&alice, &domain, token).await.error(403, FORBIDDEN);
    let resources = [rights::resource(domain.okms_id, "")];
    rights::apply(&server, "alice", &user, &resources, &[("allow", &[rights::GET])]).await;
    read_a(&alice, &domain, token).await.ok();
    // Another certificate of the same name is another one.
    let twin = client_of(&server, &ca.client(&user));
    twin.get(&domain.secret("a")).await.ok();
    read_a(&twin, &domain, token).await.error(401, UNAUTHENTICATED);
    // Its authority is trusted no more.
    server.reload(|tls| tls.external_authorities.clear()).expect("a change");
    read_a(&alice, &domain, token).await.error(401, UNAUTHENTICATED);
    read_a(&server.client(None), &domain, token).await.error(401, UNAUTHENTICATED);
}

/// The body is not waited for: what is given is given to who counts now.
async fn a_slow_body_of_a_login_does_not_bring_back_what_was_revoked(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let mut connection = RawConnection::open(&server.api_url, domain.tls(&server)).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{",
        address(&domain, "auth/cert/login")
    );
    connection.send(head.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    connection.send(b"}").await;
    let answer = connection.answer().await;
    if answer.status == 200 {
        let token = answer.value()["auth"]["client_token"].as_str().expect("a token").to_owned();
        read_a(&domain.client, &domain, &token).await.error(401, UNAUTHENTICATED);
    }
    let counting = "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL";
    assert_eq!(server.database.number(counting).await, 0);
}
