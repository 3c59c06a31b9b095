//! The key of tokens: made once, replaced with the root key, and nothing counts that it does not prove.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use hyper::Method;
use okmsd::{
    crypto::RootKey,
    domain::Error,
    service::{OtherRootKey, RootKeySource},
};

use super::{
    login::{log_in, token_of, with_token},
    read_a, root_token,
};
use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    a_new_root_key_brings_a_new_key_that_running_servers_take,
    a_rotation_amid_logins_loses_no_token,
    what_somebody_changed_is_not_signed_anew,
    what_counts_no_more_is_not_signed_anew,
    a_damaged_key_stops_the_start_and_the_rotation,
    of_two_processes_one_makes_the_first_key,
    a_lost_key_is_followed_by_one_that_proves_no_old_token,
);

/// Where the root key lies that servers read again.
#[derive(Clone)]
struct RootKeyFile(Arc<Mutex<String>>);

impl RootKeyFile {
    fn of(server: &Server) -> Self {
        Self(Arc::new(Mutex::new(server.root_key.clone())))
    }

    fn source(&self) -> Option<RootKeySource> {
        let text = Arc::clone(&self.0);
        Some(Arc::new(move || {
            let text = text.lock().expect("no panic").clone();
            Ok(text.lines().map(|text| RootKey::from_text(text).expect("a key")).collect())
        }))
    }

    /// Replaces the root key, as a process of its own does.
    async fn rotate(&self, server: &mut Server) {
        let new = RootKey::generate().expect("randomness");
        let keys = server.keys_of().await;
        // Beside the old one before the store depends on it, as `FILE.new`.
        let both = format!("{}\n{}", server.root_key, new.to_text().as_str());
        self.0.lock().expect("no panic").clone_from(&both);
        keys.rotate_root(&new, &OtherRootKey::None).await.expect("a rotation");
        server.root_key = new.to_text().to_string();
        self.0.lock().expect("no panic").clone_from(&server.root_key);
    }
}

const KEY: &str = "SELECT wrapped_key FROM token_keys";
const MACS: &str = "SELECT mac FROM tokens ORDER BY token_id";

async fn reads(server: &Server, domain: &Domain, token: &str) -> u16 {
    let identity = (&*domain.certificate_pem, &*domain.private_key_pem);
    read_a(&server.client(Some(identity)), domain, token).await.status
}

async fn a_new_root_key_brings_a_new_key_that_running_servers_take(mut server: Server) {
    let file = RootKeyFile::of(&server);
    // One that has had no use for the key so far.
    let mut late = server.another_with(file.source()).await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let personal = root_token(&server, domain.okms_id).await.text.expose().to_owned();
    let bound = token_of(&domain).await;
    let mut early = server.another_with(file.source()).await;
    for token in [&personal, &bound] {
        assert_eq!(reads(&early, &domain, token).await, 200);
    }
    let (key, macs) = (server.database.bytes(KEY).await, server.database.bytes(MACS).await);
    let of_personal = "SELECT mac FROM tokens WHERE bound_fingerprint IS NULL";
    let personal_mac = server.database.bytes(of_personal).await;
    let old_id = server.database.texts("SELECT token_key_id FROM tokens").await[0].clone();
    let old_id = String::from_utf8(old_id).expect("text");
    file.rotate(&mut server).await;
    assert_ne!(server.database.bytes(KEY).await, key);
    let signed = server.database.bytes(MACS).await;
    assert_eq!(signed.len(), 2);
    assert!(signed.iter().all(|mac| !macs.contains(mac)), "each token has a new MAC");
    for running in [&early, &late] {
        for token in [&personal, &bound] {
            assert_eq!(reads(running, &domain, token).await, 200);
        }
        let identity = (&*domain.certificate_pem, &*domain.private_key_pem);
        let client = running.client(Some(identity));
        let renewed = with_token(&client, Method::PUT, &domain, "auth/token/renew-self", &bound);
        renewed.await.ok();
        let answer = log_in(&client, &domain).await.ok();
        let token = answer["auth"]["client_token"].as_str().expect("a token");
        assert_eq!(reads(&early, &domain, token).await, 200);
    }
    // One that cannot read the new root key serves certificates, and no tokens.
    domain.client.get(&domain.secret("a")).await.ok();
    assert_eq!(reads(&server, &domain, &personal).await, 503);
    // A MAC of the old key is worth nothing, though it was right.
    let [old] = &personal_mac[..] else { panic!("one token") };
    let old: String = old.iter().map(|byte| format!("{byte:02x}")).collect();
    let old = match server.database.url().starts_with("sqlite") {
        true => format!("x'{old}'"),
        false => format!("'\\x{old}'::bytea"),
    };
    let set = format!("UPDATE tokens SET mac = {old} WHERE bound_fingerprint IS NULL");
    assert_eq!(server.database.execute(&set).await, 1);
    assert_eq!(reads(&early, &domain, &personal).await, 401);
    assert_eq!(reads(&early, &domain, &bound).await, 200);
    // Nor with the name of that key, also where a server has not taken the new one yet.
    let set =
        format!("UPDATE tokens SET token_key_id = '{old_id}' WHERE bound_fingerprint IS NULL");
    assert_eq!(server.database.execute(&set).await, 1);
    assert_eq!(reads(&early, &domain, &personal).await, 401);
    assert_eq!(reads(&server, &domain, &personal).await, 503);
    early.stop().await;
    late.stop().await;
}

async fn a_rotation_amid_logins_loses_no_token(mut server: Server) {
    let file = RootKeyFile::of(&server);
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let old = token_of(&domain).await;
    let mut running = server.another_with(file.source()).await;
    let identity = (&*domain.certificate_pem, &*domain.private_key_pem);
    let client = running.client(Some(identity));
    let callers = join_all((0..4).map(|_| async {
        let mut made = Vec::new();
        for _ in 0..15 {
            let answer = log_in(&client, &domain).await.ok();
            let token = answer["auth"]["client_token"].as_str().expect("a token").to_owned();
            read_a(&client, &domain, &token).await.ok();
            read_a(&client, &domain, &old).await.ok();
            let below = "auth/token/renew-self";
            with_token(&client, Method::PUT, &domain, below, &token).await.ok();
            made.push(token);
        }
        made
    }));
    let rotations = async {
        for _ in 0..4 {
            file.rotate(&mut server).await;
        }
    };
    let (made, ()) = tokio::join!(callers, rotations);
    for token in made.iter().flatten().chain([&old]) {
        read_a(&client, &domain, token).await.ok();
    }
    running.stop().await;
}

async fn what_somebody_changed_is_not_signed_anew(mut server: Server) {
    let file = RootKeyFile::of(&server);
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (changed, revoked) =
        (root_token(&server, domain.okms_id).await, root_token(&server, domain.okms_id).await);
    let id = changed.token.id;
    let set = format!("UPDATE tokens SET expires_at = expires_at + 1 WHERE token_id = '{id}'");
    assert_eq!(server.database.execute(&set).await, 1);
    assert!(server.tokens.revoke(revoked.token.id).await.expect("a store"));
    let macs = server.database.bytes(MACS).await;
    file.rotate(&mut server).await;
    assert_eq!(server.database.bytes(MACS).await, macs);
    let mut again = server.another().await;
    server.database.execute("UPDATE tokens SET revoked_at = NULL").await;
    for token in [&changed, &revoked] {
        assert_eq!(reads(&again, &domain, token.text.expose()).await, 401);
    }
    again.stop().await;
}

async fn what_counts_no_more_is_not_signed_anew(mut server: Server) {
    let file = RootKeyFile::of(&server);
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    token_of(&domain).await;
    let revoked = root_token(&server, domain.okms_id).await;
    for change in [
        "expires_at = 1 WHERE bound_fingerprint IS NOT NULL",
        // As an earlier release did, which left some their MAC.
        "revoked_at = created_at WHERE bound_fingerprint IS NULL",
    ] {
        assert_eq!(server.database.execute(&format!("UPDATE tokens SET {change}")).await, 1);
    }
    let (bound, personal) = (token_of(&domain).await, root_token(&server, domain.okms_id).await);
    file.rotate(&mut server).await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM tokens").await, 3);
    let mut again = server.another().await;
    server.database.execute("UPDATE tokens SET revoked_at = NULL").await;
    for (token, status) in
        [(personal.text.expose(), 200), (&*bound, 200), (revoked.text.expose(), 401)]
    {
        assert_eq!(reads(&again, &domain, token).await, status);
    }
    again.stop().await;
}

async fn a_damaged_key_stops_the_start_and_the_rotation(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let token = root_token(&server, domain.okms_id).await;
    server.open_again().await.expect("all is well");
    let other = "SELECT wrapped_key FROM domain_keys";
    let damage = format!("UPDATE token_keys SET wrapped_key = ({other} LIMIT 1)");
    assert_eq!(server.database.execute(&damage).await, 1);
    let why = server.open_again().await.expect_err("it does not start");
    assert!(why.contains("the key of tokens does not open"), "{why}");
    let new = RootKey::generate().expect("randomness");
    let refused = server.keys.rotate_root(&new, &OtherRootKey::None).await;
    let Err(Error::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("the key of tokens does not open"), "{why}");
    // The advice that it gives helps.
    server.stop().await;
    server.database.execute("DELETE FROM tokens").await;
    server.database.execute("DELETE FROM token_keys").await;
    let mut again = server.another().await;
    assert_eq!(reads(&again, &domain, token.text.expose()).await, 401);
    let token = root_token(&again, domain.okms_id).await;
    assert_eq!(reads(&again, &domain, token.text.expose()).await, 200);
    again.stop().await;
}

async fn of_two_processes_one_makes_the_first_key(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let mut other = server.another().await;
    let servers = [&server, &other, &server, &other];
    let made = join_all(servers.map(|server| root_token(server, domain.okms_id))).await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM token_keys").await, 1);
    for token in &made {
        for server in servers {
            assert_eq!(reads(server, &domain, token.text.expose()).await, 200);
        }
    }
    other.stop().await;
}

async fn a_lost_key_is_followed_by_one_that_proves_no_old_token(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let old = root_token(&server, domain.okms_id).await;
    assert_eq!(server.database.execute("DELETE FROM token_keys").await, 1);
    let new = token_of(&domain).await;
    assert_eq!(reads(&server, &domain, &new).await, 200);
    read_a(&server.client(None), &domain, old.text.expose()).await.error(401, UNAUTHENTICATED);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM token_keys").await, 1);
}
