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

use crate::{
    codes::*,
    support::{Answer, Database, Domain, Engine, Server, both_engines},
};

mod file;

both_engines!(
    a_bit_flipped_in_any_column_is_found_and_harms_no_other,
    a_column_that_is_emptied_is_found_and_harms_no_other,
    data_that_was_cut_is_refused,
    data_and_rows_that_changed_places_are_refused,
    rows_of_before_a_secret_was_made_anew_are_refused,
    an_older_row_of_a_version_does_not_open_it_again,
    an_older_row_of_a_secret_does_not_hide_its_newest_version,
    a_version_that_is_gone_is_not_taken_for_one_that_never_was,
    a_row_of_nobody_harms_no_secret,
    nothing_is_written_on_top_of_rows_that_do_not_verify,
    a_secret_that_does_not_verify_can_be_deleted_and_made_anew,
    a_secret_whose_row_cannot_even_be_read_can_be_deleted_and_made_anew,
    a_list_passes_over_rows_that_cannot_be_read_wherever_they_stand,
    a_row_that_lost_its_proof_gets_none_from_the_next_process,
    a_rotation_gives_no_proof_to_what_does_not_verify,
    a_damaged_key_is_an_error_and_no_false_answer,
);

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

async fn a_bit_flipped_in_any_column_is_found_and_harms_no_other(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let mut tried = 0;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        for cell in scene.cells(table, &row).await {
            for value in flipped(&cell) {
                let literal = scene.literal(&cell.kind, Some(&value));
                let Cell { column, row, .. } = &cell;
                let what = format!("{table}.{column} = {literal} WHERE {row}");
                if !scene
                    .force(&format!("UPDATE {table} SET {column} = {literal} WHERE {row}"))
                    .await
                {
                    // The engine itself does not let that value in.
                    continue;
                }
                tried += 1;
                if column == "sealed_data" && row.ends_with("version = 2") {
                    // The data of a version that is closed is not opened, so nobody can tell yet.
                    scene.errors(&before, &what).await;
                    scene.check_neighbours(&before, &what).await;
                } else {
                    scene.check(&before, &what).await;
                }
                // A changed key of the row leaves another row behind.
                let changed = column == "secret_id" || column == "version";
                if changed {
                    let gone = if column == "secret_id" && table == "secret_versions" {
                        let version = row.split("version = ").nth(1).expect("a version");
                        format!("secret_id = {literal} AND version = {version}")
                    } else if column == "secret_id" {
                        format!("secret_id = {literal}")
                    } else {
                        let id = row.split(" AND").next().expect("a secret");
                        format!("{id} AND version = {literal}")
                    };
                    assert!(scene.force(&format!("DELETE FROM {table} WHERE {gone}")).await);
                }
                scene.put_back(&saved).await;
            }
        }
        assert_eq!(scene.before().await, before, "{table}: all is as it was");
    }
    assert!(tried > 100, "{tried}");
}

async fn a_column_that_is_emptied_is_found_and_harms_no_other(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let mut tried = 0;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        for cell in scene.cells(table, &row).await.iter().filter(|cell| cell.value.is_some()) {
            let empty = if cell.kind == "number" { "0" } else { "''" };
            for literal in ["NULL", empty] {
                let unchanged = cell.value.as_deref() == Some(literal.as_bytes());
                let sql = format!("UPDATE {table} SET {} = {literal} WHERE {row}", cell.column);
                // Keys of rows are another test's.
                let is_key = ["secret_id", "version"].contains(&cell.column.as_str());
                if unchanged || is_key || !scene.force(&sql).await {
                    continue;
                }
                tried += 1;
                scene.check(&before, &sql).await;
                scene.put_back(&saved).await;
            }
        }
    }
    assert!(tried > 20, "{tried}");
    assert_eq!(scene.before().await, before);
}

async fn data_that_was_cut_is_refused(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let (table, row) = scene.rows(VICTIM).await.remove(4);
    let saved = scene.copy_row(table, &row).await;
    let sql = format!("SELECT sealed_data FROM {table} WHERE {row}");
    let data = scene.server.database.bytes(&sql).await.remove(0);
    let more = [&data[..], b"x"].concat();
    for cut in [&data[..0], &data[..1], &data[..16], &data[..17], &data[..data.len() - 1], &more] {
        let literal = scene.server.bytes_literal(cut);
        assert!(
            scene.force(&format!("UPDATE {table} SET sealed_data = {literal} WHERE {row}")).await
        );
        scene.check(&before, &format!("{} bytes", cut.len())).await;
        scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
    }
    scene.put_back(&saved).await;
    assert_eq!(scene.before().await, before);
}

async fn data_and_rows_that_changed_places_are_refused(server: Server) {
    let scene = Scene::set(server).await;
    let other = scene.server.domain().await;
    other.create(VICTIM, r#"{"k":"canary of another domain"}"#).await;
    let before = scene.before().await;
    let (id, next) = (scene.secret_id(VICTIM).await, scene.secret_id(NEIGHBOURS[1]).await);
    let sql = format!("SELECT secret_id FROM secrets WHERE okms_id = '{}'", other.okms_id);
    let foreign = scene.server.database.texts(&sql).await.remove(0);
    let foreign = String::from_utf8(foreign).expect("a number");
    let row = |id: &str, version: u32| format!("secret_id = {id} AND version = {version}");
    let target = row(&id, 4);
    let saved = scene.copy_row("secret_versions", &target).await;

    // From another version, another secret, another domain: the data alone, and the row as a whole.
    for from in [row(&id, 1), row(&id, 2), row(&next, 4), row(&foreign, 1)] {
        let copied = scene.copy_row("secret_versions", &from).await;
        for columns in [&["sealed_data"][..], &["sealed_data", "key_id"]] {
            let sets: Vec<_> = columns
                .iter()
                .map(|column| {
                    format!("{column} = (SELECT {column} FROM secret_versions WHERE {from})")
                })
                .collect();
            let sql = format!("UPDATE secret_versions SET {} WHERE {target}", sets.join(", "));
            assert!(scene.force(&sql).await, "{sql}");
            scene.check(&before, &sql).await;
            scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
        }
        let place = [("secret_id", id.clone()), ("version", "4".to_owned())];
        assert!(scene.force(&copied.replacing(&place)).await);
        scene.check(&before, &format!("the row of {from}")).await;
        scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
        scene.put_back(&saved).await;
    }

    // Two secrets that changed their paths, or that much of their rows that one has all of the other's.
    let saved = scene.copy_row("secrets", &format!("secret_id = {id}")).await;
    let neighbour = scene.copy_row("secrets", &format!("secret_id = {next}")).await;
    let as_next = saved.replacing(&[("path", format!("'{}'", NEIGHBOURS[1]))]);
    let gone = format!("DELETE FROM secrets WHERE secret_id = {next}");
    assert!(scene.force(&format!("{gone}; {as_next}")).await);
    scene.get(NEIGHBOURS[1]).await.error(500, INTERNAL);
    scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
    let swapped = neighbour.replacing(&[("secret_id", id.clone())]);
    assert!(scene.force(&format!("{gone}; {swapped}")).await);
    scene.get(&format!("{}?includeData=true", NEIGHBOURS[1])).await.error(500, INTERNAL);
    assert!(scene.force(&format!("DELETE FROM secrets WHERE secret_id = {id}")).await);
    scene.put_back(&saved).await;
    scene.put_back(&neighbour).await;
    assert_eq!(scene.before().await, before);
}

async fn rows_of_before_a_secret_was_made_anew_are_refused(server: Server) {
    let scene = Scene::set(server).await;
    let mut old = Vec::new();
    for (table, row) in scene.rows(VICTIM).await {
        old.push(scene.copy_row(table, &row).await);
    }
    scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
    scene.make(VICTIM).await;
    let before = scene.before().await;
    let id = scene.secret_id(VICTIM).await;
    let mut new = Vec::new();
    for (table, row) in scene.rows(VICTIM).await {
        new.push(scene.copy_row(table, &row).await);
    }
    for (old, new) in old.iter().zip(&new) {
        assert!(scene.force(&old.replacing(&[("secret_id", id.clone())])).await);
        scene.check(&before, &format!("an older row of {}", old.table)).await;
        if old.table == "secret_versions" {
            // The older data alone, in the row of today.
            let data =
                old.cells.iter().filter(|(name, _)| ["sealed_data", "key_id"].contains(&&name[..]));
            let data: Vec<_> = data.map(|(name, value)| (&name[..], value.clone())).collect();
            let differs =
                old.cells.iter().any(|(name, value)| name == "sealed_data" && value != "NULL");
            assert!(scene.force(&new.replacing(&data)).await);
            if differs {
                scene.check(&before, "older data").await;
            }
        }
        scene.put_back(new).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn an_older_row_of_a_version_does_not_open_it_again(server: Server) {
    let scene = Scene::set(server).await;
    let version =
        async |number: u32| scene.get(&format!("{VICTIM}/version/{number}?includeData=true")).await;
    let id = scene.secret_id(VICTIM).await;
    let open =
        scene.copy_row("secret_versions", &format!("secret_id = {id} AND version = 4")).await;
    for (state, expected) in [("deactivated", "deactivated"), ("deleted", "deleted")] {
        scene.domain.set_state(VICTIM, 4, state).await.ok();
        let before = scene.before().await;
        let closed =
            scene.copy_row("secret_versions", &format!("secret_id = {id} AND version = 4")).await;
        assert_eq!(version(4).await.ok()["state"], expected);
        scene.put_back(&open).await;
        version(4).await.error(500, INTERNAL);
        scene.check(&before, &format!("an open row of a version that is {state}")).await;
        scene.put_back(&closed).await;
        assert_eq!(scene.before().await, before);
    }
    // The same where it was closed and opened again: every row but the last is an older one.
    let row = format!("secret_id = {id} AND version = 1");
    let mut rows = Vec::new();
    for state in ["deactivated", "active", "deactivated", "active"] {
        rows.push(scene.copy_row("secret_versions", &row).await);
        scene.domain.set_state(VICTIM, 1, state).await.ok();
    }
    let last = scene.copy_row("secret_versions", &row).await;
    for older in rows {
        scene.put_back(&older).await;
        version(1).await.error(500, INTERNAL);
    }
    scene.put_back(&last).await;
    assert_eq!(version(1).await.ok()["data"], data(VICTIM, 1));
}

async fn an_older_row_of_a_secret_does_not_hide_its_newest_version(server: Server) {
    let scene = Scene::set(server).await;
    let row = format!("secret_id = {}", scene.secret_id(VICTIM).await);
    let older = scene.copy_row("secrets", &row).await;
    scene.add(VICTIM, 5).await.ok();
    let before = scene.before().await;
    let newest = scene.copy_row("secrets", &row).await;
    scene.put_back(&older).await;
    scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
    scene.check(&before, "an older row of the secret").await;
    scene.add(VICTIM, 6).await.error(500, INTERNAL);
    scene.put_back(&newest).await;
    assert_eq!(scene.before().await, before);
    // A row of before a version was set.
    let older = scene.copy_row("secrets", &row).await;
    scene.domain.set_state(VICTIM, 5, "deactivated").await.ok();
    scene.put_back(&older).await;
    scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
}

async fn a_version_that_is_gone_is_not_taken_for_one_that_never_was(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    for (table, row) in scene.rows(VICTIM).await.into_iter().skip(1) {
        let saved = scene.copy_row(table, &row).await;
        assert!(scene.force(&format!("DELETE FROM {table} WHERE {row}")).await);
        scene.check(&before, &format!("no {row}")).await;
        scene.get(&format!("{VICTIM}/version")).await.error(500, INTERNAL);
        scene.put_back(&saved).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn a_row_of_nobody_harms_no_secret(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let (id, next) = (scene.secret_id(VICTIM).await, scene.secret_id(NEIGHBOURS[1]).await);
    let copied =
        scene.copy_row("secret_versions", &format!("secret_id = {next} AND version = 1")).await;
    let place = [("secret_id", id.clone()), ("version", "5".to_owned())];
    assert!(scene.force(&copied.replacing(&place)).await);
    assert_eq!(scene.before().await, before);
    // It does not keep the version of that number from being written either.
    assert_eq!(scene.add(VICTIM, 5).await.ok()["id"], 5);
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 5));
}

async fn nothing_is_written_on_top_of_rows_that_do_not_verify(server: Server) {
    let scene = Scene::set(server).await;
    let id = scene.secret_id(VICTIM).await;
    for sql in [
        format!("UPDATE secrets SET cas_required = 1 WHERE secret_id = {id}"),
        format!("UPDATE secrets SET custom_metadata = '{{}}' WHERE secret_id = {id}"),
        format!("UPDATE secrets SET mac = NULL WHERE secret_id = {id}"),
    ] {
        let row = format!("secret_id = {id}");
        let saved = scene.copy_row("secrets", &row).await;
        assert!(scene.force(&sql).await);
        let changed = scene.copy_row("secrets", &row).await;
        scene.add(VICTIM, 5).await.error(500, INTERNAL);
        let target = scene.domain.secret(VICTIM);
        scene.domain.client.put(&target, r#"{"maxVersions":3}"#).await.error(500, INTERNAL);
        scene.domain.set_state(VICTIM, 1, "deactivated").await.error(500, INTERNAL);
        assert_eq!(scene.copy_row("secrets", &row).await.cells, changed.cells);
        scene.put_back(&saved).await;
    }
    let row = format!("secret_id = {id} AND version = 2");
    assert!(
        scene.force(&format!("UPDATE secret_versions SET deactivated_at = 1 WHERE {row}")).await
    );
    scene.domain.set_state(VICTIM, 2, "active").await.error(500, INTERNAL);
    // The other versions are not harmed.
    scene.domain.set_state(VICTIM, 1, "deactivated").await.ok();
}

async fn a_secret_that_does_not_verify_can_be_deleted_and_made_anew(server: Server) {
    let scene = Scene::set(server).await;
    let sql = format!("UPDATE secrets SET max_versions = 7 WHERE {}", scene.secret(VICTIM));
    assert!(scene.force(&sql).await);
    scene.get(VICTIM).await.error(500, INTERNAL);
    scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
    scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
    scene.make(VICTIM).await;
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 4));
}

async fn a_secret_whose_row_cannot_even_be_read_can_be_deleted_and_made_anew(server: Server) {
    let scene = Scene::set(server).await;
    let short = scene.server.bytes_literal(&[1]);
    for damage in [
        "custom_metadata = '['".to_owned(),
        "deactivate_version_after = 'x'".to_owned(),
        format!("mac = {short}"),
        format!("incarnation = {short}"),
        format!("state_changes = {short}"),
        "incarnation = NULL".to_owned(),
    ] {
        let sql = format!("UPDATE secrets SET {damage} WHERE {}", scene.secret(VICTIM));
        assert!(scene.force(&sql).await, "{damage}");
        scene.get(VICTIM).await.error(500, INTERNAL);
        scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
        scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
        scene.make(VICTIM).await;
    }
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 4));
}

async fn a_list_passes_over_rows_that_cannot_be_read_wherever_they_stand(server: Server) {
    let domain = server.domain().await;
    for number in 10..45 {
        domain.create(&format!("s/{number}"), "{}").await;
    }
    // One alone behind a full page, a run of more than a page, and the last ones.
    for damaged in ["s/20", "s/2_", "s/30", "s/4_"] {
        let sql = format!("UPDATE secrets SET custom_metadata = '[' WHERE path LIKE '{damaged}'");
        assert!(server.database.execute(&sql).await > 0);
        let healthy = server
            .database
            .texts("SELECT path FROM secrets WHERE custom_metadata <> '[' ORDER BY path")
            .await;
        let (mut cursor, mut listed) = (None::<String>, Vec::new());
        loop {
            let mut headers = vec![("x-pagination-size", "10")];
            headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
            let page = domain.client.page(&domain.secret(""), &headers).await;
            let items = page.ok().as_array().expect("a list").clone();
            listed
                .extend(items.iter().map(|item| item["path"].as_str().expect("a path").to_owned()));
            cursor = page.header("x-pagination-cursor-next").map(str::to_owned);
            assert!(cursor.is_none() || items.len() == 10, "{damaged}: a page that is not full");
            if cursor.is_none() {
                break;
            }
        }
        let healthy: Vec<_> =
            healthy.into_iter().map(|path| String::from_utf8(path).expect("UTF-8")).collect();
        assert_eq!(listed, healthy, "{damaged}");
    }
}

async fn a_row_that_lost_its_proof_gets_none_from_the_next_process(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        let sql = format!("UPDATE {table} SET mac = NULL WHERE {row}");
        assert!(scene.force(&sql).await);
        scene.server.open_again().await.expect("a store");
        scene.check(&before, &sql).await;
        scene.put_back(&saved).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn a_rotation_gives_no_proof_to_what_does_not_verify(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let id = scene.secret_id(VICTIM).await;
    let row = format!("secret_id = {id}");
    for sql in [
        format!("UPDATE secrets SET max_versions = 9 WHERE {row}"),
        format!("UPDATE secret_versions SET deactivated_at = NULL WHERE {row} AND version = 2"),
        format!("UPDATE secret_versions SET deactivated_at = 1 WHERE {row} AND version = 3"),
    ] {
        assert!(scene.force(&sql).await);
    }
    let keys = &scene.server.keys;
    keys.rotate_domain(scene.domain.okms_id).await.expect("a domain");
    let report = keys.rewrap(scene.domain.okms_id, |_| ()).await.expect("storage works");
    assert!(report.pending && report.destroyed == 0, "{report:?}");
    let refused: Vec<_> =
        report.refused.iter().map(|(path, id)| (path.as_str(), id.map(|id| id.get()))).collect();
    assert_eq!(refused, [(VICTIM, Some(2)), (VICTIM, Some(3)), (VICTIM, None)]);
    scene.check(&before, "what was changed before a rotation").await;
    scene.get(VICTIM).await.error(500, INTERNAL);
}

/// The keys in memory go on serving; a process that starts then says what is wrong.
async fn a_damaged_key_is_an_error_and_no_false_answer(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let row = format!("okms_id = '{}'", scene.domain.okms_id);
    for cell in scene.cells("domain_keys", &row).await {
        if !["generation", "wrapped_key", "store_key_id"].contains(&&cell.column[..]) {
            continue;
        }
        for value in flipped(&cell) {
            let set = |value: &[u8]| {
                let literal = scene.literal(&cell.kind, Some(value));
                format!("UPDATE domain_keys SET {} = {literal} WHERE {row}", cell.column)
            };
            if !scene.force(&set(&value)).await {
                continue;
            }
            assert_eq!(scene.before().await, before, "{}", set(&value));
            scene.server.open_again().await.expect_err("a damaged key");
            assert!(scene.force(&set(cell.value.as_deref().expect("a value"))).await);
        }
    }
    scene.server.open_again().await.expect("the key is as it was");
}
