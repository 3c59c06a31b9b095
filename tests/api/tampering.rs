//! Whoever can write to the database can break what is in it, and cannot make it tell something false.
//!
//! Each test changes rows behind the server's back. What is answered about the secret then is what was
//! answered before, or an error without data; what is answered about all others is what it was.
//!
//! What nothing inside the database can tell, and no test here asks for: all rows of a secret put back as
//! they were together, its metadata alone put back as it was where no version was written or set since, and
//! a secret that is gone with all its rows.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use crate::support::{Answer, Database, Domain, Engine, Server};

mod changed;
mod file;
mod unreadable;

const VICTIM: &str = "b/victim";
const NEIGHBOURS: [&str; 3] = ["a", "b/victim-next", "c"];
/// Bits tried in each column of each row.
const BITS: usize = 3;

/// A domain with a victim of four versions (active, deactivated, deleted, active) and neighbours alike.
struct Scene {
    server: Server,
    domain: Domain,
}

/// What is answered about a secret, by target.
type Answers = BTreeMap<String, (u16, String)>;

/// A column of one row.
struct Cell {
    column: String,
    kind: String,
    /// Which row.
    row: String,
    /// What is in it, as text or bytes.
    value: Option<Vec<u8>>,
}

impl Scene {
    async fn set(server: Server) -> Self {
        let domain = server.domain().await;
        let scene = Self { server, domain };
        for path in NEIGHBOURS {
            scene.make(path).await;
        }
        scene.make(VICTIM).await;
        scene
    }

    async fn make(&self, path: &str) {
        let body = json!({
            "path": path,
            "metadata": { "customMetadata": { "team": "X" }, "deactivateVersionAfter": "300d" },
            "version": { "data": data(path, 1) },
        });
        self.domain.client.post(&self.domain.secret(""), body).await.ok();
        for version in 2..=4 {
            self.add(path, version).await.ok();
        }
        self.domain.set_state(path, 2, "deactivated").await.ok();
        self.domain.set_state(path, 3, "deleted").await.ok();
    }

    async fn add(&self, path: &str, version: u32) -> Answer {
        let target = self.domain.secret(&format!("{path}/version"));
        self.domain.client.post(&target, json!({ "data": data(path, version) })).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.domain.client.get(&self.domain.secret(target)).await
    }

    /// Everything that is answered about a secret, apart from lists.
    async fn ask(&self, path: &str) -> Answers {
        let mut targets = vec![format!("{path}?includeData=true"), format!("{path}/version")];
        for version in 1..=5 {
            targets.push(format!("{path}?version={version}&includeData=true"));
            targets.push(format!("{path}/version/{version}"));
        }
        let mut answers = Answers::new();
        for target in targets {
            let answer = self.get(&target).await;
            answers.insert(target, (answer.status, answer.text_without_request_id()));
        }
        answers
    }

    async fn ask_neighbours(&self) -> Answers {
        let mut answers = Answers::new();
        for path in NEIGHBOURS {
            for target in [format!("{path}?includeData=true"), format!("{path}/version")] {
                let answer = self.get(&target).await;
                answers.insert(target, (answer.status, answer.text_without_request_id()));
            }
        }
        answers
    }

    /// The secrets of the list, by path.
    async fn list(&self) -> BTreeMap<String, Value> {
        let list = self.get("").await.ok();
        let secrets = list.as_array().expect("a list").iter();
        let path = |secret: &Value| secret["path"].as_str().expect("a path").to_owned();
        secrets.map(|secret| (path(secret), secret.clone())).collect()
    }

    /// A condition for the row of a secret.
    fn secret(&self, path: &str) -> String {
        format!("okms_id = '{}' AND path = '{path}'", self.domain.okms_id)
    }

    async fn secret_id(&self, path: &str) -> String {
        let sql = format!("SELECT secret_id FROM secrets WHERE {}", self.secret(path));
        String::from_utf8(self.server.database.texts(&sql).await.remove(0)).expect("a number")
    }

    /// Conditions for the rows of a secret and its versions, that stay true when other columns change.
    async fn rows(&self, path: &str) -> Vec<(&'static str, String)> {
        let id = self.secret_id(path).await;
        let mut rows = vec![("secrets", format!("secret_id = {id}"))];
        for version in 1..=4 {
            let row = format!("secret_id = {id} AND version = {version}");
            rows.push(("secret_versions", row));
        }
        rows
    }

    /// The columns of a row.
    async fn cells(&self, table: &'static str, row: &str) -> Vec<Cell> {
        let database = &self.server.database;
        let columns = match &**database {
            Database::Sqlite(_) => {
                format!("SELECT name || ' ' || type FROM pragma_table_info('{table}')")
            }
            Database::Postgres(_) => format!(
                "SELECT column_name || ' ' || data_type FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}'"
            ),
        };
        let mut cells = Vec::new();
        for column in database.texts(&columns).await {
            let column = String::from_utf8(column).expect("UTF-8");
            let (column, kind) = column.split_once(' ').expect("a name and a type");
            let kind = match kind {
                "BLOB" | "bytea" => "bytes",
                "INTEGER" | "bigint" => "number",
                "TEXT" | "text" => "text",
                kind => panic!("{kind}"),
            };
            let sql = format!("SELECT {column} FROM {table} WHERE {row}");
            let value = match kind {
                "bytes" => database.bytes(&sql).await,
                _ => database.texts(&sql).await,
            };
            let (column, kind) = (column.to_owned(), kind.to_owned());
            let value = value.into_iter().next();
            cells.push(Cell { column, kind, row: row.to_owned(), value });
        }
        cells
    }

    /// A value as SQL writes it.
    fn literal(&self, kind: &str, value: Option<&[u8]>) -> String {
        let Some(value) = value else { return "NULL".to_owned() };
        let bytes = self.server.bytes_literal(value);
        match (kind, self.server.engine) {
            ("number", _) => String::from_utf8(value.to_vec()).expect("a number"),
            ("bytes", _) => bytes,
            (_, Engine::Sqlite) => format!("CAST({bytes} AS TEXT)"),
            (_, Engine::Postgres) => format!("convert_from({bytes}, 'UTF8')"),
        }
    }

    /// Runs statements as one, past foreign keys and checks as far as the engine lets; `false` where it
    /// refuses.
    async fn force(&self, sql: &str) -> bool {
        match &*self.server.database {
            Database::Sqlite(_) => {
                let past = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;";
                let sql = sqlx::AssertSqlSafe(format!("{past} BEGIN IMMEDIATE; {sql}; COMMIT"));
                let mut connection = self.server.database.sqlite().await;
                let done = connection.execute(sql).await.is_ok();
                connection.close().await.expect("to close");
                done
            }
            Database::Postgres(_) => {
                let past = "SET session_replication_role = replica;";
                let sql = sqlx::AssertSqlSafe(format!("{past} {sql}"));
                let mut connection = self.server.database.postgres().await;
                let done = connection.execute(sql).await.is_ok();
                connection.close().await.expect("to close");
                done
            }
        }
    }

    async fn copy_row(&self, table: &'static str, row: &str) -> SavedRow {
        let cells = self.cells(table, row).await;
        let literal = |cell: &Cell| self.literal(&cell.kind, cell.value.as_deref());
        let cells = cells.iter().map(|cell| (cell.column.clone(), literal(cell)));
        SavedRow { table, cells: cells.collect() }
    }

    /// Puts a row back where it was.
    async fn put_back(&self, saved: &SavedRow) {
        assert!(self.force(&saved.replacing(&[])).await, "{}", saved.replacing(&[]));
    }

    /// Checks that the victim is answered as before or with an error, of which there is one at least, and
    /// the neighbours as before.
    async fn check(&self, before: &Before, what: &str) {
        assert!(self.errors(before, what).await > 0, "{what} was not found");
        self.check_neighbours(before, what).await;
    }

    /// Checks that the victim is answered as before or with an error, and says how many there are.
    async fn errors(&self, before: &Before, what: &str) -> u32 {
        let now = self.ask(VICTIM).await;
        let mut errors = 0;
        for (target, (status, text)) in &now {
            if before.victim[target] == (*status, text.clone()) {
                continue;
            }
            errors += 1;
            assert!([404, 500].contains(status), "{what}: {target}: {status} {text}");
            assert!(!text.contains("canary"), "{what}: {target}: {text}");
        }
        errors
    }

    async fn check_neighbours(&self, before: &Before, what: &str) {
        assert_eq!(self.ask_neighbours().await, before.neighbours, "{what}");
        let mut list = self.list().await;
        if !list.contains_key(VICTIM) {
            list.insert(VICTIM.to_owned(), before.list[VICTIM].clone());
        }
        assert_eq!(list, before.list, "{what}");
    }

    async fn before(&self) -> Before {
        Before {
            victim: self.ask(VICTIM).await,
            neighbours: self.ask_neighbours().await,
            list: self.list().await,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Before {
    victim: Answers,
    neighbours: Answers,
    list: BTreeMap<String, Value>,
}

/// A row that was read, and can be put back.
struct SavedRow {
    table: &'static str,
    /// Columns and literals.
    cells: Vec<(String, String)>,
}

impl SavedRow {
    /// The statements that put it back in place of whatever is there, with some columns as given.
    fn replacing(&self, other: &[(&str, String)]) -> String {
        let value = |column: &str, own: &str| {
            let other = other.iter().find(|(name, _)| *name == column);
            other.map_or_else(|| own.to_owned(), |(_, value)| value.clone())
        };
        let key: &[&str] = match self.table {
            "secrets" => &["secret_id"],
            _ => &["secret_id", "version"],
        };
        let (mut names, mut values, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (column, own) in &self.cells {
            let value = value(column, own);
            if key.contains(&column.as_str()) {
                places.push(format!("{column} = {value}"));
            }
            names.push(column.as_str());
            values.push(value);
        }
        let (table, names, values) = (self.table, names.join(", "), values.join(", "));
        let place = places.join(" AND ");
        format!(
            "DELETE FROM {table} WHERE {place}; INSERT INTO {table} ({names}) VALUES ({values})"
        )
    }
}

fn data(path: &str, version: u32) -> Value {
    json!({ "k": format!("canary of version {version} of {path}") })
}

/// Values that differ from a present one in a bit.
fn flipped(cell: &Cell) -> Vec<Vec<u8>> {
    let random = Uuid::new_v4().into_bytes();
    let random =
        random.as_chunks::<2>().0.iter().map(|pair| usize::from(u16::from_be_bytes(*pair)));
    let Some(value) = &cell.value else {
        // What a bit in the place of NULL comes to.
        return vec![if cell.kind == "number" { b"1".to_vec() } else { vec![1] }];
    };
    if cell.kind == "number" {
        let number: i64 = std::str::from_utf8(value).expect("a number").parse().expect("a number");
        let bits = random.map(|random| random % 63).take(BITS).chain([0]);
        return bits.map(|bit| (number ^ 1 << bit).to_string().into_bytes()).collect();
    }
    let bits = random.map(|random| random % (value.len() * 8)).take(BITS);
    let flip = |bit: usize| {
        let mut value = value.clone();
        value[bit / 8] ^= 1 << (bit % 8);
        value
    };
    bits.map(flip).collect()
}
