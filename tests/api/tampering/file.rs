//! Bits that flip in the file of SQLite, while no server is at work on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use okmsd::domain::OkmsDomain;
use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use uuid::Uuid;

use super::{NEIGHBOURS, Scene, VICTIM};
use crate::support::{Client, Engine, Server};

/// Flips tried; `OKMSD_FLIPS` asks for another number.
const FLIPS: usize = 150;

/// No flipped bit makes an answer false. (One in the type of a column has the library's thread of that
/// connection panic, which is an error to us.) Where SQLite finds nothing wrong
/// with the file and the text of its schema is what it was, only those secrets are harmed whose own rows the
/// bit is in.
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
    let flips = std::env::var("OKMSD_FLIPS").map_or(FLIPS, |text| text.parse().expect("a number"));
    // Most of a file is empty: every second bit is one of a byte that says something.
    let filled: Vec<_> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for flip in 0..flips {
        let random =
            usize::from_ne_bytes(*Uuid::new_v4().as_bytes().first_chunk().expect("8 bytes"));
        let (random, in_byte) = (random / 8, random % 8);
        let byte = if flip % 2 == 0 { random % good.len() } else { filled[random % filled.len()] };
        let bit = byte * 8 + in_byte;
        // Whoever closes late would write to the next file, or remove what belongs to it.
        until_closed(&file).await;
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", file.display()));
        }
        fs::write(&file, &flipped).expect("to write");
        let found_rows = rows(&file).await;
        // What one start takes, the next one may refuse: the first has written.
        let opened = [scene.server.open_again().await, scene.server.open_again().await];
        if opened.iter().any(Result::is_err) {
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
    let page_size = usize::from(u16::from_be_bytes([good[16], good[17]]));
    let place = |bit: &usize| (bit / 8 / page_size + 1, bit / 8 % page_size, bit % 8);
    let places: Vec<_> = unexplained.iter().map(place).collect();
    assert!(unexplained.is_empty(), "pages, bytes and bits that explain nothing: {places:?}");
    assert!(unharmed > flips, "{harmed} harmed, {refused} refused, {unharmed} unharmed");
}

/// Waits until this process has the file open no more, nor what SQLite keeps beside it.
async fn until_closed(file: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let name = file.to_string_lossy().into_owned();
    let is_open = || {
        let mut open = fs::read_dir("/proc/self/fd").expect("Linux").filter_map(Result::ok);
        open.any(|one| {
            fs::read_link(one.path()).is_ok_and(|path| path.to_string_lossy().starts_with(&name))
        })
    };
    while is_open() {
        assert!(Instant::now() < deadline, "somebody is at work on the file");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What is said about a secret, where it is said: path, metadata, version and data.
async fn read(scene: &Scene, client: &Client, path: &str) -> BTreeMap<String, Option<Value>> {
    let mut answers = BTreeMap::new();
    for version in 1..=4 {
        let target = format!("{path}?version={version}&includeData=true");
        let answer = client.get(&scene.domain.secret(&target)).await;
        let said = (answer.status == 200).then(|| {
            let value = answer.value();
            let mut metadata = value["metadata"].clone();
            without_region(&mut metadata["urn"]);
            serde_json::json!([value["path"], metadata, value["version"]])
        });
        answers.insert(target, said);
    }
    answers
}

/// Takes the region out of a URN: like the defaults of a domain, it is not authenticated, so a flipped bit can
/// make another one of it, but nothing that is none.
fn without_region(urn: &mut Value) {
    let text = urn.as_str().expect("a URN");
    let (region, rest) =
        text.strip_prefix("urn:v1:").and_then(|rest| rest.split_once(':')).expect("a URN");
    assert!(OkmsDomain::check_region(region).is_ok(), "{text}");
    *urn = rest.into();
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
    // Statements go by the text of the schema, which no check of SQLite compares with anything.
    let schema = "SELECT quote(type) || quote(name) || quote(tbl_name) || rootpage || quote(sql) \
                  FROM sqlite_schema ORDER BY 1";
    let mut rest: Vec<String> = sqlx::query_scalar(schema).fetch_all(&mut connection).await.ok()?;
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
