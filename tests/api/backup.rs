//! Backups: whole, of one moment, and refused when they were touched. From each engine into each.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use okmsd::{
    audit,
    crypto::{BackupSecret, RootKey},
    domain::{Clock, Error},
    service::{BackupContent, Backups, Keyring, Policies},
};
use proptest::{
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    keys::{everything, keep_all_versions, with_a_bit_of_everything},
    limits, rights,
    support::{Client, Database, Domain, Engine, Server, both_engines, postgres_is_at_hand},
    tokens,
};

both_engines!(
    a_backup_under_load_is_of_one_moment,
    whatever_is_touched_restores_nothing,
    a_store_with_anything_in_it_is_left_alone,
    what_nobody_takes_is_not_read,
    damage_of_the_store_is_told_by_a_verification,
    a_root_key_that_was_replaced_meanwhile_is_no_trouble,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_whole_from_sqlite_to_sqlite() {
    moves_whole(Engine::Sqlite, Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_whole_from_sqlite_to_postgres() {
    if postgres_is_at_hand() {
        moves_whole(Engine::Sqlite, Engine::Postgres).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_whole_from_postgres_to_sqlite() {
    if postgres_is_at_hand() {
        moves_whole(Engine::Postgres, Engine::Sqlite).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_whole_from_postgres_to_postgres() {
    if postgres_is_at_hand() {
        moves_whole(Engine::Postgres, Engine::Postgres).await;
    }
}

fn secret() -> BackupSecret {
    BackupSecret::from_key_text(&new_key()).expect("a key")
}

fn new_key() -> String {
    RootKey::generate().expect("a key").to_text().to_string()
}

async fn backups(server: &Server) -> Backups {
    let key = RootKey::from_text(&server.root_key).expect("a root key");
    let keyring = Keyring::open(key, server.store.clone(), server.clock.clone()).await;
    let keyring = Arc::new(keyring.expect("a keyring"));
    Backups::new(server.store.clone(), keyring, server.clock.clone())
}

/// A backup; `between` is waited for before each of its pieces is taken.
async fn back_up_slowly(
    server: &Server,
    secret: &BackupSecret,
    mut between: impl AsyncFnMut(),
) -> (Vec<u8>, BackupContent) {
    let backups = backups(server).await;
    let folder = server.audit_folder.path();
    let lines = || audit::last_lines(folder).expect("an audit log");
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let take = async {
        let mut bytes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            between().await;
            bytes.extend(piece);
        }
        bytes
    };
    let (content, bytes) = tokio::join!(backups.write(secret, lines, sender, &|_| ()), take);
    (bytes, content.expect("a backup"))
}

async fn back_up(server: &Server, secret: &BackupSecret) -> (Vec<u8>, BackupContent) {
    back_up_slowly(server, secret, async || ()).await
}

async fn restore(
    bytes: &[u8],
    secret: &BackupSecret,
    database: &Database,
    root_key: &str,
) -> Result<BackupContent, Error> {
    let root_key = RootKey::from_text(root_key).expect("a root key");
    let url = database.url().parse().expect("a URL");
    let now = okmsd::clock::SystemClock.now();
    Backups::restore(&mut &bytes[..], secret, &root_key, &url, now, &|_| ()).await
}

/// A server on what was restored, for the same clients.
async fn restored(server: &Server, bytes: &[u8], secret: &BackupSecret, to: Engine) -> Server {
    let (database, root_key) = (Database::create(to).await, new_key());
    restore(bytes, secret, &database, &root_key).await.expect("to restore");
    server.on_another_database(database, root_key).await
}

fn client_of(server: &Server, domain: &Domain) -> Client {
    server.client(Some((&domain.certificate_pem, &domain.private_key_pem)))
}

/// All that the API, and the use cases of operators, tell of a store.
async fn told(server: &Server, domains: &[&Domain], tokens: &[&str]) -> Value {
    let mut told = Vec::new();
    for domain in domains {
        let client = client_of(server, domain);
        told.extend(everything(server, domain).await);
        told.push(client.get(&format!("{}/secretConfig", domain.base)).await.ok());
        for below in ["metadata/many", "data/s/5?version=6", "metadata/s/3", "data/s/4?version=3"] {
            let answer = client.get(&domain.kv(below)).await;
            let text = answer.text_without_request_id();
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            // Of the request, not of the store.
            value.as_object_mut().expect("an object").remove("request_id");
            told.push(json!([answer.status, value]));
        }
        let anonymous = server.client(None);
        for token in tokens {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str())];
            let answer = tokens::get(&anonymous, &domain.secret("s/1"), &headers).await;
            told.push(json!(answer.status));
        }
        let listed = server.tokens.list(domain.okms_id).await.expect("tokens");
        told.push(json!(format!("{:?}", listed.iter().map(|token| &token.id).collect::<Vec<_>>())));
        let credentials = server.credentials.list(domain.okms_id).await.expect("credentials");
        told.push(json!(format!("{credentials:?}")));
        let named = server.domains.find(domain.okms_id).await.expect("a domain");
        told.push(json!(format!("{named:?}")));
    }
    let policies = Policies::new(server.store.clone(), server.clock.clone());
    told.push(json!(format!("{:?}", policies.list().await.expect("policies"))));
    told.push(json!(policies.groups().await.expect("groups").len()));
    Value::Array(told)
}

async fn moves_whole(from: Engine, to: Engine) {
    let mut server = Server::start(from).await;
    let domain = with_a_bit_of_everything(&server).await;
    server.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    domain.create("later", r#"{"ü":"\u0001'"}"#).await;
    let other = with_a_bit_of_everything(&server).await;
    let revoked = server.credential(domain.okms_id, 30).await.credential.id;
    server.credentials.revoke(revoked).await.expect("to revoke");
    let token = tokens::root_token(&server, domain.okms_id).await;
    let ended = tokens::root_token(&server, domain.okms_id).await;
    server.tokens.revoke(ended.token.id).await.expect("to revoke");
    let resources = [rights::resource(domain.okms_id, "/secret/s/1")];
    let user = rights::user("alice");
    let may = [("allow", &[rights::GET][..])];
    rights::apply(&server, "p", &user, &resources, &may).await;
    let alice = rights::client_of(&server, domain.okms_id, &[&user]).await;
    alice.get(&domain.secret("s/1")).await.ok();
    let tokens = [token.text.expose(), ended.text.expose()];
    let domains = [&domain, &other];

    let before = told(&server, &domains, &tokens).await;
    let secret = secret();
    let (bytes, content) = back_up(&server, &secret).await;
    let target = restored(&server, &bytes, &secret, to).await;
    let after = told(&target, &domains, &tokens).await;
    assert_eq!(after, before);
    // Of each domain: what it may have more is the same.
    let (counted, secrets) = limits::counted(&target).await;
    assert_eq!((counted, secrets), limits::counted(&server).await);
    assert_eq!((counted, content.rows["secrets"]), (secrets, secrets.unsigned_abs()));
    assert_eq!(content.rows["domains"], 2);
    assert_eq!(content.rows["policies"], 1);

    // It goes on where the other one ended: numbers of rows do not meet those that are there.
    let client = client_of(&target, &domain);
    let body = json!({ "path": "new", "version": { "data": { "k": "v" } } });
    client.post(&format!("{}/secret", domain.base), body).await.ok();
    let version = json!({ "data": { "n": "next" } });
    client.post(&domain.secret("s/1/version"), version).await.ok();
    target.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    client.post(&domain.secret("s/2/version"), json!({ "data": {} })).await.ok();
    target.domain().await;
    // The old root key opens nothing of it, and the old store is as it was.
    let old = target.on_root_key(&server.root_key).await;
    assert!(old.expect_err("another root key").contains("the store belongs to root key"));
    assert_eq!(told(&server, &domains, &tokens).await, before);
    server.stop().await;

    // And back: what was made of the copy is the same as what it was made of.
    let before = told(&target, &domains, &tokens).await;
    let (bytes, _) = back_up(&target, &secret).await;
    let back = restored(&target, &bytes, &secret, from).await;
    assert_eq!(told(&back, &domains, &tokens).await, before);
}

/// Each of some writers begins a write when the one before is acknowledged, in a secret of its own or another: so
/// of each, the backup has all up to some write, and at least those of before it began.
async fn a_backup_under_load_is_of_one_moment(server: Server) {
    let domain = Arc::new(server.domain().await);
    keep_all_versions(&domain).await;
    for number in 0..12 {
        let data = json!({ "fill": "x".repeat(40_000) }).to_string();
        domain.create(&format!("fill/{number}"), &data).await;
    }
    let acknowledged: Arc<[AtomicU64; WRITERS]> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            let (domain, client) = (domain.clone(), client_of(&server, &domain));
            tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let path = format!("w/{writer}/{}", number % 3);
                    let data = json!({ "n": number });
                    if number < 3 {
                        let body = json!({ "path": path, "version": { "data": data } });
                        client.post(&format!("{}/secret", domain.base), body).await.ok();
                    } else {
                        let address = domain.secret(&format!("{path}/version"));
                        client.post(&address, json!({ "data": data })).await.ok();
                    }
                    acknowledged[writer].store(number + 1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let now = || acknowledged.each_ref().map(|count| count.load(Ordering::SeqCst));
    while now().contains(&0) {
        tokio::task::yield_now().await;
    }
    let before = now();
    // Writes go on between any two pieces.
    let mut pieces = 0;
    let secret = secret();
    let between = async || {
        pieces += 1;
        let (seen, sum) = (now(), |counts: [u64; WRITERS]| counts.iter().sum::<u64>());
        while sum(now()) < sum(seen) + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let (bytes, _) = back_up_slowly(&server, &secret, between).await;
    let after = now();
    stop.store(true, Ordering::SeqCst);
    for writer in writing {
        writer.await.expect("a writer");
    }
    assert!(pieces > 5, "{pieces} pieces");
    let target = restored(&server, &bytes, &secret, server.engine).await;
    let client = client_of(&target, &domain);
    for (writer, (before, after)) in before.into_iter().zip(after).enumerate() {
        let mut numbers = BTreeSet::new();
        for part in 0..3 {
            let versions = domain.secret(&format!("w/{writer}/{part}/version"));
            let list = client.page(&versions, &[("X-Pagination-Size", "500")]).await;
            if list.status != 200 {
                continue;
            }
            for version in list.ok().as_array().expect("a list") {
                let address = format!("{versions}/{}?includeData=true", version["id"]);
                let read = client.get(&address).await.ok();
                numbers.insert(read["data"]["n"].as_u64().expect("a number"));
            }
        }
        let count = numbers.len() as u64;
        assert!(numbers.iter().copied().eq(0..count), "{numbers:?}: not all up to some write");
        assert!(count >= before, "{count} of {before} before");
        // One may have been written, and its answer be on its way.
        assert!(count <= after + 1, "{count} of {after}");
    }
}

#[derive(Debug, Clone)]
enum Touch {
    Flip(Index, u8),
    Cut(Index),
    Swap(Index, Index),
    Mix(Index),
}

async fn whatever_is_touched_restores_nothing(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    for number in 0..5 {
        let data = json!({ "fill": "x".repeat(40_000) }).to_string();
        domain.create(&format!("fill/{number}"), &data).await;
    }
    let secret = secret();
    let (bytes, _) = back_up(&server, &secret).await;
    let (other, _) = back_up(&server, &secret).await;
    let (database, root_key) = (Database::create(server.engine).await, new_key());
    let place = any::<Index>;
    let touches = prop_oneof![
        (place(), 0..8_u8).prop_map(|(at, bit)| Touch::Flip(at, bit)),
        place().prop_map(Touch::Cut),
        (place(), place()).prop_map(|(one, other)| Touch::Swap(one, other)),
        place().prop_map(Touch::Mix),
    ];
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for _ in 0..CASES {
        let touch = touches.new_tree(&mut runner).expect("a case").current();
        let changed = touched(&bytes, &other, &touch);
        if changed == bytes {
            continue;
        }
        let refused = restore(&changed, &secret, &database, &root_key).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{touch:?}: {refused:?}");
        assert_eq!(tables(&database).await, 0, "{touch:?}");
    }
    let wrong = restore(&bytes, &self::secret(), &database, &root_key).await;
    let Err(Error::Malformed(text)) = wrong else { panic!("{wrong:?}") };
    assert!(text.contains("another backup key or passphrase"), "{text}");
    // The very same database takes it as it is.
    let before = everything(&server, &domain).await;
    restore(&bytes, &secret, &database, &root_key).await.expect("to restore");
    let target = server.on_another_database(database, root_key).await;
    assert_eq!(everything(&target, &domain).await, before);
}

fn touched(bytes: &[u8], other: &[u8], touch: &Touch) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    match touch {
        Touch::Flip(at, bit) => changed[at.index(bytes.len())] ^= 1 << bit,
        Touch::Cut(at) => changed.truncate(at.index(bytes.len())),
        Touch::Swap(one, other) => {
            let mut chunks = chunks(bytes);
            let (one, other) = (one.index(chunks.len()), other.index(chunks.len()));
            chunks.swap(one, other);
            changed = chunks.concat();
        }
        Touch::Mix(at) => {
            let mut chunks = chunks(bytes);
            let others = self::chunks(other);
            let at = at.index(chunks.len().min(others.len()));
            chunks[at].clone_from(&others[at]);
            changed = chunks.concat();
        }
    }
    changed
}

/// The header, and each chunk, by the form that the module of the format tells of.
fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (header, mut rest) = bytes.split_at(okmsd::crypto::BackupHeader::LEN);
    let mut chunks = vec![header.to_vec()];
    while rest.len() > 5 {
        let length = 5 + rest[1..5].iter().fold(0, |sum, byte| sum << 8 | *byte as usize);
        let (chunk, after) = rest.split_at(length);
        chunks.push(chunk.to_vec());
        rest = after;
    }
    chunks
}

/// How many tables there are.
async fn tables(database: &Database) -> i64 {
    match database {
        Database::Sqlite(_) if !database.sqlite_file().exists() => 0,
        Database::Sqlite(_) => {
            database.number("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table'").await
        }
        Database::Postgres(_) => {
            let sql = "SELECT COUNT(*) FROM information_schema.tables \
                       WHERE table_schema = current_schema()";
            database.number(sql).await
        }
    }
}

async fn a_store_with_anything_in_it_is_left_alone(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let secret = secret();
    let (bytes, _) = back_up(&server, &secret).await;
    let before = everything(&server, &domain).await;
    let refused = restore(&bytes, &secret, &server.database, &new_key()).await;
    let Err(Error::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("the database is not empty"), "{text}");
    assert_eq!(everything(&server, &domain).await, before);
    // Also one that a server has opened once and nobody has used.
    let mut fresh = Server::start(server.engine).await;
    fresh.stop().await;
    let refused = restore(&bytes, &secret, &fresh.database, &new_key()).await;
    let Err(Error::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("its table root_keys has rows"), "{text}");
}

/// Whatever the size of the store: while a reader waits, a backup waits, with what fits into some pieces.
async fn what_nobody_takes_is_not_read(server: Server) {
    let domain = server.domain().await;
    for number in 0..60 {
        let data = json!({ "fill": "x".repeat(40_000) }).to_string();
        domain.create(&format!("fill/{number}"), &data).await;
    }
    let (backups, secret) = (backups(&server).await, secret());
    let rows = AtomicU64::new(0);
    let count = |done| rows.store(done, Ordering::SeqCst);
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let slow = async {
        let (mut taken, mut bytes) = (0, 0);
        while let Some(piece) = receiver.recv().await {
            (taken, bytes) = (taken + 1, bytes + piece.len());
            // Each row that was read is in a piece that was taken, that waits, or that is being filled.
            let of_data = rows.load(Ordering::SeqCst).saturating_sub(80);
            let room = bytes + 4 * 64 * 1024;
            assert!(of_data * 40_000 <= room as u64, "{of_data} rows after {bytes} bytes");
        }
        taken
    };
    let (written, taken) = tokio::join!(backups.write(&secret, Vec::new, sender, &count), slow);
    written.expect("a backup");
    assert!(taken > 35, "{taken} pieces");
    // Nobody there at all.
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(1);
    drop(receiver);
    let refused = backups.write(&secret, Vec::new, sender, &count).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

async fn damage_of_the_store_is_told_by_a_verification(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    tokens::root_token(&server, domain.okms_id).await;
    let here = [rights::resource(domain.okms_id, "")];
    let get: &[&str] = &["okms:apikms:secret/get"];
    rights::apply(&server, "damaged", &rights::user("a"), &here, &[("allow", get)]).await;
    let once = [("content-type", "application/json"), ("idempotency-key", "\"k\"")];
    let new = json!({ "path": "once", "version": { "data": {} } }).to_string();
    let secrets = format!("{}/secret", domain.base);
    domain.client.send(hyper::Method::POST, &secrets, &once, new.into()).await.ok();
    let secret = secret();
    let verify = async |bytes: &[u8]| {
        let scratch = tempfile::tempdir().expect("a folder");
        let clock = server.clock.clone();
        Backups::verify(&mut &bytes[..], &secret, scratch.path(), clock, &|_| ()).await
    };
    let (bytes, content) = back_up(&server, &secret).await;
    let verified = verify(&bytes).await.expect("a backup");
    assert_eq!(verified.content, content);
    assert_eq!(verified.damage, [""; 0]);
    assert_eq!((verified.secrets, verified.versions, verified.tokens), (8, 22 + 70, 1));
    assert_eq!(verified.opened, 8);
    assert_eq!(content.rows["secret_versions"], 22 + 70);
    for (damage, told) in [
        (
            "UPDATE secret_versions SET sealed_data = substr(sealed_data, 1, 30) WHERE version = 70",
            "the data of version 70 does not verify",
        ),
        (
            "UPDATE secret_versions SET deactivated_at = NULL WHERE deactivated_at IS NOT NULL \
             AND sealed_data IS NOT NULL",
            "the row of version 2 does not verify",
        ),
        ("UPDATE secrets SET max_versions = 8 WHERE path = 's/5'", "secret s/5: its row"),
        ("UPDATE tokens SET expires_at = expires_at + 1", "its row does not verify"),
        ("UPDATE idempotency_keys SET created_at = created_at + 1", "an idempotency key of domain"),
        ("UPDATE policies SET document = 'x' WHERE name = 'damaged'", "the stored policy damaged"),
        ("UPDATE credentials SET identity_urns = 'x'", "credentials of domain"),
        ("UPDATE domains SET region = 'x y'", "stored region"),
    ] {
        assert_eq!(server.database.execute(damage).await, 1, "{damage}");
        let (bytes, _) = back_up(&server, &secret).await;
        let verified = verify(&bytes).await.expect("a backup");
        let found = verified.damage.iter().any(|damage| damage.contains(told));
        assert!(found, "{told}: {:?}", verified.damage);
    }
}

/// A process that knows an older store key backs up what there is now.
async fn a_root_key_that_was_replaced_meanwhile_is_no_trouble(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let (new, old) = (new_key(), server.root_key.clone());
    let texts = [old, new.clone()];
    let source = move || {
        Ok(texts.iter().map(|text| RootKey::from_text(text).expect("a root key")).collect())
    };
    let source: okmsd::service::RootKeySource = Arc::new(source);
    let first = vec![RootKey::from_text(&server.root_key).expect("a root key")];
    let (store, clock) = (server.store.clone(), server.clock.clone());
    let keyring = Keyring::open_source(first, Some(source), store.clone(), clock.clone()).await;
    let backups = Backups::new(store, Arc::new(keyring.expect("a keyring")), clock);
    let new = RootKey::from_text(&new).expect("a root key");
    let rotated = server.keys.rotate_root(&new, &okmsd::service::OtherRootKey::None).await;
    rotated.expect("to rotate");

    let secret = secret();
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
    let take = async {
        let mut bytes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            bytes.extend(piece);
        }
        bytes
    };
    let (written, bytes) = tokio::join!(backups.write(&secret, Vec::new, sender, &|_| ()), take);
    written.expect("a backup");
    let target = restored(&server, &bytes, &secret, server.engine).await;
    assert_eq!(everything(&target, &domain).await, everything(&server, &domain).await);
}

/// Writers of the test under load: more would only take turns.
const WRITERS: usize = 6;

/// What is done to a real backup; the module of the format does thousands to made-up ones.
const CASES: u32 = 60;
