//! Bits that flip in the file of SQLite, while no server is at work on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use uuid::Uuid;

use super::{NEIGHBOURS, Scene, VICTIM};
use crate::support::{Client, Engine, Server};

/// Flips tried.
const FLIPS: usize = 150;
/// Flips that may keep a secret from being read although SQLite's check finds the file in order.
const MAX_UNEXPLAINED: usize = 4;

/// No flipped bit makes an answer false, and none makes the program panic. Where SQLite finds nothing wrong
/// with the file, only those secrets are harmed whose own rows the bit is in, with rare exceptions.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_anywhere_in_the_file_makes_no_answer_false() {
    let mut scene = Scene::set(Server::start(Engine::Sqlite).await).await;
    let paths = [NEIGHBOURS[0], NEIGHBOURS[1], NEIGHBOURS[2], VICTIM];
    let (certificate, key) =
        (scene.domain.certificate_pem.clone(), scene.domain.private_key_pem.clone());
    let mut before = BTreeMap::new();
    for path in paths {
        before.insert(path, read(&scene, &scene.domain.client, path).await);
    }
    scene.server.stop().await;
    let file = scene.server.database.sqlite_file();
    // Whatever still closes its connections: all is in the file then.
    let mut connection = scene.server.database.sqlite().await;
    let mut moved: (i64, i64, i64) = (1, 0, 0);
    for _ in 0..100 {
        moved = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await
            .expect("a checkpoint");
        if moved.0 == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(moved.0, 0, "somebody is at work on the file");
    connection.close().await.expect("to close");
    let good = fs::read(&file).expect("the file");
    let good_rows = rows(&file).await.expect("a good file");
    let (mut harmed, mut refused, mut unharmed) = (0, 0, 0);
    let mut unexplained = BTreeSet::new();
    for _ in 0..FLIPS {
        let random = u128::from_be_bytes(Uuid::new_v4().into_bytes());
        let bit = usize::try_from(random % (good.len() as u128 * 8)).expect("a bit");
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", file.display()));
        }
        fs::write(&file, &flipped).expect("to write");
        let found_rows = rows(&file).await;
        if scene.server.open_again().await.is_err() {
            refused += 1;
            continue;
        }
        let mut server = scene.server.another().await;
        let client = server.client(Some((&certificate, &key)));
        for path in paths {
            let now = read(&scene, &client, path).await;
            for (target, answer) in &now {
                let known = &before[path][target];
                assert!(answer.is_none() || answer == known, "bit {bit}: {target}: {answer:?}");
            }
            // SQLite finds the file in order: then only what the rows of a secret say can be wrong.
            if let Some(found) = &found_rows
                && found.rest == good_rows.rest
                && found.of(path) == good_rows.of(path)
                && found.secrets.len() == good_rows.secrets.len()
            {
                if now == before[path] {
                    unharmed += 1;
                } else {
                    unexplained.insert(bit);
                }
            } else if now != before[path] {
                harmed += 1;
            }
        }
        server.stop().await;
    }
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", file.display()));
    }
    fs::write(&file, &good).expect("to write");
    // SQLite's own check reads neither all of an index nor the text of the schema as statements do.
    assert!(unexplained.len() <= MAX_UNEXPLAINED, "{unexplained:?}");
    assert!(unharmed > FLIPS, "{harmed} harmed, {refused} refused, {unharmed} unharmed");
}

/// What is said about a secret, where it is said: path, metadata, version and data.
async fn read(scene: &Scene, client: &Client, path: &str) -> BTreeMap<String, Option<Value>> {
    let mut answers = BTreeMap::new();
    for version in 1..=4 {
        let target = format!("{path}?version={version}&includeData=true");
        let answer = client.get(&scene.domain.secret(&target)).await;
        let said = (answer.status == 200).then(|| {
            let value = answer.value();
            serde_json::json!([value["path"], value["metadata"], value["version"]])
        });
        answers.insert(target, said);
    }
    answers
}

/// What is in the rows, as text.
struct Rows {
    /// Of secrets, with those of their versions.
    secrets: BTreeMap<String, Vec<String>>,
    /// Of everything else.
    rest: Vec<String>,
}

impl Rows {
    fn of(&self, path: &str) -> Option<&Vec<String>> {
        self.secrets.get(path)
    }
}

/// `None` where SQLite itself finds something wrong.
async fn rows(file: &Path) -> Option<Rows> {
    let url = format!("sqlite://{}?mode=ro&immutable=1", file.display());
    let mut connection = SqliteConnection::connect(&url).await.ok()?;
    let check: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.ok()?;
    if check != "ok" {
        return None;
    }
    let mut secrets = BTreeMap::<String, Vec<String>>::new();
    let tables = ["secrets", "secret_versions"];
    for table in tables {
        let columns = columns(&mut connection, table).await?;
        let sql = format!(
            "SELECT CAST(s.path AS BLOB), {columns} FROM {table} t \
             LEFT JOIN secrets s ON s.secret_id = t.secret_id ORDER BY 2"
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.ok()?;
        for row in found {
            let path = row.try_get::<Option<Vec<u8>>, _>(0).ok()?.unwrap_or_default();
            let path = String::from_utf8_lossy(&path).into_owned();
            let text: String = row.try_get(1).ok()?;
            secrets.entry(path).or_default().push(text);
        }
    }
    let mut rest = Vec::new();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.ok()?;
    for table in names.iter().filter(|name| !tables.contains(&&name[..])) {
        let columns = columns(&mut connection, table).await?;
        let sql = sqlx::AssertSqlSafe(format!("SELECT {columns} FROM \"{table}\" t ORDER BY 1"));
        let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.ok()?;
        rest.extend(found);
    }
    connection.close().await.ok()?;
    Some(Rows { secrets, rest })
}

/// All columns of a table `t` as one text.
async fn columns(connection: &mut SqliteConnection, table: &str) -> Option<String> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(connection).await.ok()?;
    let columns: Vec<_> = names.iter().map(|name| format!("quote(t.\"{name}\")")).collect();
    if columns.is_empty() { None } else { Some(columns.join(" || ',' || ")) }
}
