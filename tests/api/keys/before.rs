//! A store of before there were store keys: made here byte by byte, as that program wrote it.

use std::{fmt::Write, fs::OpenOptions, os::unix::fs::OpenOptionsExt};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use okmsd::{crypto::RootKey, domain::Error, service::Keyring, store::Store};
use serde_json::json;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use uuid::Uuid;

use super::hex;
use crate::support::{Database, Engine, Server, postgres_is_at_hand};

/// A domain of such a store.
struct Old {
    okms_id: Uuid,
    /// Its keys, by generation from 1.
    keys: Vec<[u8; 32]>,
    /// Path, version, generation of the key, data; without data it is deleted.
    versions: Vec<(&'static str, u32, u32, Option<&'static str>)>,
}

const ROOT_KEY: [u8; 32] = [9; 32];

fn domains() -> [Old; 3] {
    let id = |number: u128| Uuid::from_u128(0x6a09_e667_f3bc_4000_8000_0000_0000_0000 + number);
    [
        Old {
            okms_id: id(1),
            keys: vec![[1; 32], [2; 32]],
            versions: vec![
                ("a", 1, 1, Some(r#"{"n":1}"#)),
                ("a", 2, 1, None),
                ("a", 3, 2, Some(r#"{"n":3}"#)),
                ("b/c", 1, 2, Some(r#"{"n":"b"}"#)),
            ],
        },
        Old {
            okms_id: id(2),
            keys: vec![[3; 32]],
            versions: vec![("a", 1, 1, Some(r#"{"n":"x"}"#))],
        },
        Old { okms_id: id(3), keys: vec![[4; 32]], versions: vec![] },
    ]
}

fn seal(key: &[u8; 32], header: &[u8], context: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"));
    let nonce = [7; 12];
    let mut sealed = plaintext.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(context.concat()),
        &mut sealed,
    )
    .expect("it seals");
    [header, &nonce, &sealed].concat()
}

impl Old {
    fn wrapped(&self, generation: u32) -> Vec<u8> {
        let key = &self.keys[generation as usize - 1];
        let context: [&[u8]; 3] =
            [b"okmsd domain key v1\0", self.okms_id.as_bytes(), &generation.to_be_bytes()];
        seal(&ROOT_KEY, &[1], &context, key)
    }

    fn sealed(&self, path: &str, version: u32, generation: u32, data: &str) -> Vec<u8> {
        let header = [&[1][..], &generation.to_be_bytes()].concat();
        let context: [&[u8]; 5] = [
            b"okmsd version data v1\0",
            &header,
            self.okms_id.as_bytes(),
            &version.to_be_bytes(),
            path.as_bytes(),
        ];
        seal(&self.keys[generation as usize - 1], &header, &context, data.as_bytes())
    }
}

async fn migrate(database: &Database, engine: Engine) {
    let files = match engine {
        Engine::Sqlite => [
            include_str!("../../../migrations/sqlite/0001_domains_credentials_secrets.sql"),
            include_str!("../../../migrations/sqlite/0002_revisions.sql"),
        ],
        Engine::Postgres => [
            include_str!("../../../migrations/postgres/0001_domains_credentials_secrets.sql"),
            include_str!("../../../migrations/postgres/0002_revisions.sql"),
        ],
    };
    let names = ["0001_domains_credentials_secrets", "0002_revisions"];
    let migrations = files.into_iter().zip(names).zip(1..).map(|((sql, name), version)| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    match engine {
        Engine::Sqlite => migrator.run(&mut database.sqlite().await).await.expect("a schema"),
        Engine::Postgres => migrator.run(&mut database.postgres().await).await.expect("a schema"),
    }
}

/// Makes the store, and gives the text of its root key.
async fn store_of_before(database: &Database, engine: Engine) -> String {
    if engine == Engine::Sqlite {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(database.sqlite_file()).expect("a file");
    }
    migrate(database, engine).await;
    let text = STANDARD.encode(ROOT_KEY);
    let root_key = RootKey::from_text(&text).expect("a key");
    let bytes = |bytes: &[u8]| match engine {
        Engine::Sqlite => format!("X'{}'", hex(bytes)),
        Engine::Postgres => format!("'\\x{}'", hex(bytes)),
    };
    let mut sql = format!(
        "INSERT INTO root_keys (slot, root_key_id, created_at) VALUES (1, '{}', 1);",
        root_key.id()
    );
    for domain in domains() {
        let id = domain.okms_id;
        write!(sql, "INSERT INTO domains VALUES ('{id}', 'old', 'eu', 1, 0, 0, '0s');").unwrap();
        for generation in 1..=domain.keys.len() as u32 {
            let (wrapped, root) = (bytes(&domain.wrapped(generation)), root_key.id());
            let values = format!("'{id}', {generation}, '{root}', {wrapped}, 65536, 1");
            write!(sql, "INSERT INTO domain_keys VALUES ({values});").unwrap();
        }
        for (path, version, generation, data) in &domain.versions {
            let find = format!(
                "(SELECT secret_id FROM secrets WHERE okms_id = '{id}' AND path = '{path}')"
            );
            if *version == 1 {
                let current = domain.versions.iter().filter(|row| row.0 == *path).count();
                write!(
                    sql,
                    "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
                     deactivate_version_after, custom_metadata, current_version, oldest_version, \
                     created_at, updated_at) \
                     VALUES ('{id}', '{path}', 0, 0, '0s', '{{}}', {current}, 1, 1, 1);"
                )
                .unwrap();
            }
            let sealed = data.map_or("NULL".to_owned(), |data| {
                bytes(&domain.sealed(path, *version, *generation, data))
            });
            write!(
                sql,
                "INSERT INTO secret_versions (secret_id, version, created_at, deactivated_at, \
                 sealed_data) VALUES ({find}, {version}, 1, NULL, {sealed});"
            )
            .unwrap();
        }
    }
    for statement in sql.split_inclusive(';') {
        database.execute(statement).await;
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_of_before_store_keys_is_taken_over() {
    is_taken_over(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_of_before_store_keys_is_taken_over() {
    if postgres_is_at_hand() {
        is_taken_over(Engine::Postgres).await;
    }
}

async fn is_taken_over(engine: Engine) {
    let database = Database::create(engine).await;
    let text = store_of_before(&database, engine).await;
    let other = RootKey::generate().expect("randomness");
    let url = database.url().parse().expect("a URL");
    let store = Store::open(&url).await.expect("the schema is brought up to date");
    let clock = std::sync::Arc::new(crate::support::ManualClock::new());
    let refused = Keyring::open(other, store.clone(), clock.clone()).await.err();
    assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
    // Two processes at once.
    let key = || RootKey::from_text(&text).expect("a key");
    let second = Store::open(&url).await.expect("a store");
    let (one, two) = tokio::join!(
        Keyring::open(key(), store.clone(), clock.clone()),
        Keyring::open(key(), second.clone(), clock.clone()),
    );
    assert!(one.is_ok() && two.is_ok(), "{:?} {:?}", one.err(), two.err());
    for store in [store, second] {
        store.close().await;
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM store_keys").await, 1);
    let direct = "SELECT COUNT(*) FROM domain_keys WHERE store_key_id IS NULL";
    assert_eq!(database.number(direct).await, 0);
    let wrong = "SELECT COUNT(*) FROM secret_versions v JOIN secrets s ON s.secret_id = v.secret_id \
                 LEFT JOIN domain_keys k ON k.key_id = v.key_id \
                 WHERE v.sealed_data IS NOT NULL AND (k.okms_id IS NULL OR k.okms_id <> s.okms_id)";
    assert_eq!(database.number(wrong).await, 0);
    // Every row has got its proof, and none gets one a second time.
    let unproven = "SELECT (SELECT COUNT(*) FROM secrets WHERE mac IS NULL) + \
                    (SELECT COUNT(*) FROM secret_versions WHERE mac IS NULL)";
    assert_eq!(database.number(unproven).await, 0);
    let mac = database.bytes("SELECT mac FROM secrets WHERE path = 'b/c'").await.remove(0);
    let set = |mac: &str| format!("UPDATE secrets SET mac = {mac} WHERE path = 'b/c'");
    assert_eq!(database.execute(&set("NULL")).await, 1);
    let again = Store::open(&url).await.expect("a store");
    let opened = Keyring::open(key(), again.clone(), clock.clone()).await;
    assert!(opened.is_ok(), "{:?}", opened.err());
    again.close().await;
    assert_eq!(database.number(unproven).await, 1);
    let literal = match engine {
        Engine::Sqlite => format!("X'{}'", hex(&mac)),
        Engine::Postgres => format!("'\\x{}'", hex(&mac)),
    };
    assert_eq!(database.execute(&set(&literal)).await, 1);

    let mut server = Server::start_with_root_key(database, text).await;
    let read = async |server: &Server| {
        for domain in domains() {
            let okms_id = domain.okms_id.to_string().parse().expect("an id");
            let issued = server.credential(okms_id, 30).await;
            let key = issued.private_key_pem.expect("a key").to_string();
            let client = server.client(Some((&issued.credential.certificate_pem, &key)));
            let base = format!("/api/{okms_id}/v2/secret");
            for (path, version, _, data) in &domain.versions {
                let target = format!("{base}/{path}/version/{version}?includeData=true");
                let read = client.get(&target).await.ok();
                let data: serde_json::Value =
                    data.map_or(json!(null), |data| serde_json::from_str(data).expect("JSON"));
                assert_eq!(read.get("data").cloned().unwrap_or_default(), data, "{target}");
            }
            let body = json!({ "path": "new", "version": { "data": { "k": "v" } } });
            client.post(&base, &body).await.ok();
            client.delete(&format!("{base}/new")).await;
        }
    };
    read(&server).await;
    // The old generation goes as after any rotation, and all is still there.
    for domain in domains() {
        let okms_id = domain.okms_id.to_string().parse().expect("an id");
        server.keys.rewrap(okms_id, |_| ()).await.expect("storage works");
    }
    assert_eq!(server.database.number("SELECT COUNT(*) FROM domain_keys").await, 3);
    server.stop().await;
    let mut again = server.another().await;
    read(&again).await;
    again.stop().await;
}

/// A row that nobody could read before is no reason not to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_of_before_stays_the_only_one() {
    let database = Database::create(Engine::Sqlite).await;
    let text = store_of_before(&database, Engine::Sqlite).await;
    let damage = "UPDATE secret_versions SET sealed_data = X'01ffffffff00' WHERE version = 3";
    assert_eq!(database.execute(damage).await, 1);
    let damage = "UPDATE secret_versions SET sealed_data = X'' WHERE secret_id = 2";
    assert_eq!(database.execute(damage).await, 1);
    let server = Server::start_with_root_key(database, text).await;
    let okms_id = domains()[0].okms_id.to_string().parse().expect("an id");
    let issued = server.credential(okms_id, 30).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let client = server.client(Some((&issued.credential.certificate_pem, &key)));
    let base = format!("/api/{okms_id}/v2/secret");
    for bad in ["a/version/3", "b/c"] {
        let read = client.get(&format!("{base}/{bad}?includeData=true")).await;
        read.error(500, crate::codes::INTERNAL);
    }
    client.get(&format!("{base}/a/version/1?includeData=true")).await.ok();
}
