//! Durable writes: new versions of distinct secrets and of one, against the floors of the disk. `disk` appends
//! as many bytes as okmsd has had written for an answer, with one sync for a group as large as there are
//! connections; `one commit` is a bare SQLite that commits each write for itself, without network, keys or
//! audit log.

mod support;

use std::{
    fs::File,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use support::{
    Options, Report, client,
    compare::{HttpSubject, OKMSD, Subject, compare},
    http::{Ask, Protocol, Question},
    load::{self, Measured, Pace, Worker},
    okmsd::{self, DATA, Okmsd, new_version, path},
    report::{Quantity, Target},
};
use tempfile::TempDir;

fn main() {
    support::main("write", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(10_000, 200);
    let mut okmsd = Okmsd::start();
    okmsd.fill(secrets).await;
    okmsd.stop();
    let one_commit = OneCommit::new(&okmsd, secrets);
    okmsd.restart();
    let distinct = distinct(&okmsd, secrets);
    let hot = hot(&okmsd).await;
    for connections in options.choose(&[1, 16, 64, 256][..], &[1, 64]) {
        for (kind, ask) in [("distinct", &distinct), ("hot", &hot)] {
            let case = case(kind, *connections);
            if options.wants(&case) {
                measure(&case, &okmsd, *connections, ask, &one_commit, options, report).await;
            }
        }
    }
    judge(report);
}

async fn measure(
    case: &str,
    okmsd: &Okmsd,
    connections: usize,
    ask: &Ask,
    one_commit: &OneCommit,
    options: &Options,
    report: &mut Report,
) {
    let mut ours = HttpSubject {
        name: OKMSD.to_owned(),
        process: okmsd.process(),
        target: okmsd.target(),
        protocol: Protocol::Http1 { connections },
        ask: ask.clone(),
    };
    let measured = ours.measure(Pace::Closed, options).await;
    let written = measured.usage.as_ref().expect("a process").written / measured.answers.max(1);
    let bytes = usize::try_from(written).expect("a small number");
    let mut subjects: Vec<Box<dyn Subject + '_>> =
        vec![Box::new(ours), Box::new(Disk::new(connections, bytes))];
    if connections == 1 || connections == 64 {
        subjects.push(Box::new(one_commit));
    }
    compare(case, &mut subjects, options, report).await;
}

fn judge(report: &mut Report) {
    let many = case("distinct", 64);
    // A server with a commit for each write would do more than this, and so be slower.
    report.ratio((&many, OKMSD), (&many, ONE_COMMIT), Quantity::Rate, Target::AtLeast(5.0));
    for (quantity, most) in [(Quantity::P99, 20.0), (Quantity::Max, 100.0)] {
        if let Some(value) = report.worst(&many, OKMSD, quantity) {
            let what = format!("{quantity:?} in ms");
            report.number(&many, OKMSD, &what, value, Target::AtMost(most));
        }
    }
}

fn case(kind: &str, connections: usize) -> String {
    format!("{kind}, {connections}")
}

fn distinct(okmsd: &Okmsd, secrets: u64) -> Ask {
    let base = okmsd.v2("secret");
    let asked = AtomicU64::new(0);
    Arc::new(move |_| {
        let path = path(asked.fetch_add(1, Ordering::Relaxed) % secrets);
        Question::post(format!("{base}/{path}/version"), new_version())
    })
}

/// One secret at a time. The numbers of its versions end, so there are some to go on with.
async fn hot(okmsd: &Okmsd) -> Ask {
    for number in 0..HOT_SECRETS {
        let body = format!(r#"{{"path":"hot/{number}","version":{{"data":{DATA}}}}}"#);
        okmsd.answer(&Question::post(okmsd.v2("secret"), body)).await;
    }
    let base = okmsd.v2("secret");
    let asked = AtomicU64::new(0);
    Arc::new(move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed) / VERSIONS_OF_HOT;
        assert!(number < HOT_SECRETS, "more hot secrets are needed");
        Question::post(format!("{base}/hot/{number}/version"), new_version())
    })
}

/// A file that is appended to, and synced once for each group.
struct Disk {
    _folder: TempDir,
    file: Arc<File>,
    group: Arc<Vec<u8>>,
    connections: usize,
}

impl Disk {
    fn new(connections: usize, bytes: usize) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let file = Arc::new(File::create(folder.path().join("floor")).expect("a file"));
        let group = Arc::new(vec![b'x'; bytes * connections]);
        Self { _folder: folder, file, group, connections }
    }
}

impl Subject for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn has_pace(&self) -> bool {
        false
    }

    fn measure<'a>(&'a mut self, pace: Pace, options: &'a Options) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let worker = Appender { file: self.file.clone(), group: self.group.clone() };
            let workers: Vec<Box<dyn Worker>> = vec![Box::new(worker)];
            let (warm_up, time) = (options.warm_up, options.time);
            let mut measured = load::run(workers, pace, warm_up, time, None).await;
            measured.answers *= self.connections as u64;
            measured
        })
    }
}

struct Appender {
    file: Arc<File>,
    group: Arc<Vec<u8>>,
}

impl Worker for Appender {
    fn ask(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            tokio::task::block_in_place(|| {
                (&*self.file).write_all(&self.group).and_then(|()| self.file.sync_data())
            })
            .map_err(|error| error.to_string())
        })
    }
}

/// SQLite with okmsd's settings on a copy of its store: what a write reads and writes there, one commit each.
struct OneCommit {
    folder: TempDir,
    secrets: u64,
}

impl OneCommit {
    /// Copies the store of a server that does not run.
    fn new(okmsd: &Okmsd, secrets: u64) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        std::fs::copy(okmsd.file(okmsd::DATABASE), folder.path().join(okmsd::DATABASE))
            .expect("a copy");
        Self { folder, secrets }
    }
}

impl Subject for &OneCommit {
    fn name(&self) -> &str {
        ONE_COMMIT
    }

    fn has_pace(&self) -> bool {
        false
    }

    fn measure<'a>(&'a mut self, pace: Pace, options: &'a Options) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let connection = SqliteConnectOptions::new()
                .filename(self.folder.path().join(okmsd::DATABASE))
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .pragma("secure_delete", "ON")
                .disable_statement_logging();
            let connection = connection.connect().await.expect("SQLite");
            let worker = Committer { connection, secrets: self.secrets, number: 0 };
            let (warm_up, time) = (options.warm_up, options.time);
            load::run(vec![Box::new(worker)], pace, warm_up, time, None).await
        })
    }
}

struct Committer {
    connection: SqliteConnection,
    secrets: u64,
    number: u64,
}

impl Worker for Committer {
    fn ask(&mut self) -> BoxFuture<'_, Result<(), String>> {
        self.number += 1;
        let path = path(self.number % self.secrets);
        Box::pin(async move { self.commit(&path).await.map_err(|error| error.to_string()) })
    }
}

impl Committer {
    async fn commit(&mut self, path: &str) -> Result<(), sqlx::Error> {
        let connection = &mut self.connection;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let (id, version): (i64, i64) =
            sqlx::query_as("SELECT secret_id, current_version FROM secrets WHERE path = $1")
                .bind(path)
                .fetch_one(&mut *connection)
                .await?;
        for sql in [
            "UPDATE secrets SET current_version = $2 + 1, updated_at = updated_at + 1 \
             WHERE secret_id = $1",
            "INSERT INTO secret_versions (secret_id, version, created_at, sealed_data, key_id, \
             state_changes, mac_key_id, mac) SELECT secret_id, $2 + 1, created_at, sealed_data, \
             key_id, state_changes, mac_key_id, mac FROM secret_versions \
             WHERE secret_id = $1 AND version = $2",
            "DELETE FROM secret_versions WHERE secret_id = $1 AND version <= $2 - 9",
        ] {
            sqlx::query(sql).bind(id).bind(version).execute(&mut *connection).await?;
        }
        sqlx::query("COMMIT").execute(connection).await?;
        Ok(())
    }
}

const ONE_COMMIT: &str = "one commit";

/// What one secret is given of versions: fewer than the 24,000 that it can have.
const VERSIONS_OF_HOT: u64 = 20_000;
/// Four million writes, more than a run makes.
const HOT_SECRETS: u64 = 200;
