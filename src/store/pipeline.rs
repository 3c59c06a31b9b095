//! On SQLite: many statements in one round trip to its thread, which costs more than most statements do.
//!
//! The statements are the same that run alone, joined by semicolons, each with parameters of its own. SQLite
//! prepares and runs them one after another, and stops at the first that fails.
//!
//! New versions of distinct secrets at 64 connections (`cargo bench --bench write`, a busy machine): 2,301 a second
//! and 293 us of processor each before, 3,301 and 179 with it.

use futures_util::TryStreamExt;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Executor as _, SqliteConnection,
    sqlite::{SqliteArguments, SqliteRow},
};

/// What is bound to a parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Integer(Option<i64>),
    Text(String),
    Bytes(Option<Vec<u8>>),
}

/// What a statement has to do for it not to have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Must {
    /// Anything.
    Run,
    /// To change a row: whoever decided on it saw that row, or that there was none.
    Change,
}

/// Statements that give no rows, kept until they run together.
#[derive(Default)]
pub(super) struct Deferred {
    /// Those of one text together, in the order in which the texts came.
    statements: Vec<(&'static str, Must, Vec<Vec<Value>>)>,
}

impl Deferred {
    pub(super) fn add(&mut self, sql: &'static str, must: Must, values: Vec<Value>) {
        match self.statements.iter_mut().find(|(text, ..)| *text == sql) {
            Some((.., rows)) => rows.push(values),
            None => self.statements.push((sql, must, vec![values])),
        }
    }

    /// Runs all of them; none is left.
    pub(super) async fn run(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let statements = std::mem::take(&mut self.statements);
        if statements.is_empty() {
            return Ok(());
        }
        // Each text once, as nearly always for one unit of work alone: there are some tens of such sequences.
        if statements.iter().all(|(.., rows)| rows.len() == 1) {
            let mut joined = Joined::default();
            for (sql, must, rows) in &statements {
                rows.iter().try_for_each(|values| joined.add(sql, *must, values))?;
            }
            joined.run(connection).await?;
            return Ok(());
        }
        for (sql, must, rows) in &statements {
            run_each(connection, sql, *must, rows).await?;
        }
        Ok(())
    }
}

/// Runs one statement for each of these rows of values: what each found, which is a row at the most.
pub(super) async fn fetch_each_row(
    connection: &mut SqliteConnection,
    sql: &'static str,
    rows: &[Vec<Value>],
) -> Result<Vec<Option<SqliteRow>>, sqlx::Error> {
    run_each(connection, sql, Must::Run, rows).await
}

async fn run_each(
    connection: &mut SqliteConnection,
    sql: &'static str,
    must: Must,
    mut rows: &[Vec<Value>],
) -> Result<Vec<Option<SqliteRow>>, sqlx::Error> {
    let mut found = Vec::with_capacity(rows.len());
    while !rows.is_empty() {
        // Few lengths, for each is prepared for itself.
        let length = (1 << rows.len().ilog2()).min(LONGEST);
        let (now, later) = rows.split_at(length);
        let mut joined = Joined::default();
        now.iter().try_for_each(|values| joined.add(sql, must, values))?;
        found.extend(joined.run(connection).await?);
        rows = later;
    }
    Ok(found)
}

/// Statements of one round trip.
#[derive(Default)]
struct Joined {
    text: String,
    arguments: SqliteArguments,
    musts: Vec<Must>,
}

impl Joined {
    fn add(&mut self, sql: &str, must: Must, values: &[Value]) -> Result<(), sqlx::Error> {
        // A value too few would be the next statement's first.
        if append(&mut self.text, sql, self.arguments.len()) != Some(values.len()) {
            let why = "a statement has not as many parameters as values";
            return Err(sqlx::Error::Protocol(why.to_owned()));
        }
        for value in values {
            let added = match value {
                Value::Integer(value) => self.arguments.add(value),
                Value::Text(value) => self.arguments.add(value.as_str()),
                Value::Bytes(value) => self.arguments.add(value.as_deref()),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        self.musts.push(must);
        Ok(())
    }

    /// Runs them: the last row of each.
    async fn run(
        self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<Option<SqliteRow>>, sqlx::Error> {
        let (mut found, mut row) = (Vec::with_capacity(self.musts.len()), None);
        // It is made of texts that are part of this program.
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        let mut steps = connection.fetch_many(query);
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Left(done) => {
                    let must = self.musts.get(found.len());
                    if must == Some(&Must::Change) && done.rows_affected() == 0 {
                        return Err(sqlx::Error::RowNotFound);
                    }
                    found.push(row.take());
                }
                Either::Right(next) => row = Some(next),
            }
        }
        if found.len() == self.musts.len() {
            return Ok(found);
        }
        // Should sqlx no longer run but the first of several.
        let (run, count) = (found.len(), self.musts.len());
        Err(sqlx::Error::Protocol(format!("{run} of {count} statements were run")))
    }
}

/// Appends a statement whose first parameter is the one after the `before`th. How many it has; `None` where what
/// follows on a `$` is no number.
fn append(text: &mut String, sql: &str, before: usize) -> Option<usize> {
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    let mut last = 0;
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        let number: usize = number.parse().ok()?;
        last = last.max(number);
        text.push_str(&format!("${}{rest}", before + number));
    }
    text.push_str(";\n");
    Some(last)
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_owned()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

/// Statements to a round trip. Each is prepared so often, and twice that with the shorter lengths: at some KiB
/// each, a few MiB for the handful that run so.
const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Row as _};

    use super::*;

    async fn numbers() -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let sql = "CREATE TABLE numbers (number INTEGER UNIQUE, word TEXT, bytes BLOB)";
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection
    }

    const DELETE: &str = "DELETE FROM numbers WHERE number = $1 + 50";
    const INSERT: &str = "INSERT INTO numbers (bytes, number, word) VALUES ($3, $1, $2)";

    fn row(number: i64) -> Vec<Value> {
        vec![number.into(), number.to_string().into(), number.to_be_bytes()[..].into()]
    }

    #[tokio::test]
    async fn each_statement_has_its_own_parameters_and_row() {
        let mut connection = numbers().await;
        let mut deferred = Deferred::default();
        // More than one round trip takes, and not all the same.
        for number in 0..100 {
            deferred.add(INSERT, Must::Change, row(number));
            deferred.add(DELETE, Must::Run, vec![number.into()]);
        }
        deferred.run(&mut connection).await.unwrap();
        let find = "SELECT word, bytes FROM numbers WHERE number = $1";
        let asked: Vec<_> = (0..100).map(|number| vec![Value::from(number)]).collect();
        let found = fetch_each_row(&mut connection, find, &asked).await.unwrap();
        assert_eq!(found.len(), 100);
        for (number, found) in (0_i64..).zip(found) {
            let found = found.map(|row| (row.get::<String, _>(0), row.get::<Vec<u8>, _>(1)));
            let expected = (number.to_string(), number.to_be_bytes().to_vec());
            assert_eq!(found, (number < 50).then_some(expected));
        }
    }

    #[tokio::test]
    async fn what_fails_is_an_error_and_ends_the_round_trip() {
        let mut connection = numbers().await;
        let mut deferred = Deferred::default();
        deferred.add(INSERT, Must::Change, row(1));
        let sql = "INSERT INTO numbers (number) VALUES ($1)";
        deferred.add(sql, Must::Change, vec![1.into()]);
        let sql = "INSERT INTO numbers (number) VALUES ($1 + 1)";
        deferred.add(sql, Must::Change, vec![1.into()]);
        assert!(deferred.run(&mut connection).await.is_err());
        let numbers = sqlx::query("SELECT * FROM numbers").fetch_all(&mut connection).await;
        assert_eq!(numbers.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_had_to_change_a_row_and_did_not_is_an_error() {
        let mut connection = numbers().await;
        for (must, fails) in [(Must::Change, true), (Must::Run, false)] {
            let mut deferred = Deferred::default();
            deferred.add(INSERT, Must::Change, row(i64::from(fails)));
            deferred.add(DELETE, must, vec![7.into()]);
            assert_eq!(deferred.run(&mut connection).await.is_err(), fails, "{must:?}");
        }
    }

    #[tokio::test]
    async fn a_statement_gets_no_value_of_its_neighbour() {
        let mut connection = numbers().await;
        for values in [vec![1.into(), "1".into()], [row(1), vec![2.into()]].concat()] {
            let mut deferred = Deferred::default();
            deferred.add(INSERT, Must::Change, values);
            deferred.add(DELETE, Must::Run, vec![3.into()]);
            assert!(deferred.run(&mut connection).await.is_err());
        }
        assert_eq!(append(&mut String::new(), "SELECT $name", 3), None);
    }
}
