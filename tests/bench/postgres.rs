//! okmsd on PostgreSQL against `pgbench` that sends the same statements to the same PostgreSQL, in turns: the
//! statements are those that PostgreSQL's log shows of one request. `pgbench` has as many connections to PostgreSQL as
//! okmsd is asked over, of which okmsd makes 16 or fewer; and it sends for each what okmsd sends for one that comes
//! alone, while many at the same time share what they ask of their caller.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use hdrhistogram::Histogram;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::{
    Options, Report, client,
    compare::{HttpSubject, OKMSD, Subject, compare},
    http::{Ask, Protocol, Question},
    load::{Measured, Pace},
    okmsd::{Okmsd, Rates, new_version, path},
    report::{Quantity, Target},
};
use tempfile::TempDir;

fn main() {
    support::main("postgres", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    // Its settings are changed and its log is read.
    assert!(
        std::env::var_os("OKMSD_TEST_POSTGRES").is_none(),
        "this takes a PostgreSQL of its own"
    );
    let url = postgres::base_url().expect("PostgreSQL is needed");
    let mut admin = PgConnection::connect(&url).await.expect("PostgreSQL");
    // That of tests may lose what it has acknowledged.
    set(&mut admin, &[("fsync", "on"), ("full_page_writes", "on")]).await;
    let secrets = options.choose(100_000, 200);
    admin.execute("CREATE DATABASE okmsd").await.expect("a database");
    let of = |database: &str| url.replace("/postgres?", &format!("/{database}?"));
    let mut okmsd = Okmsd::start_with(&["--database", &of("okmsd")], Rates::OutOfReach);
    okmsd.fill(secrets).await;
    let recorder = Recorder::prepare(&okmsd, &of("okmsd"), secrets).await;
    okmsd.stop();
    // Of its own: what pgbench writes there proves nothing, and okmsd would refuse it.
    admin.execute("CREATE DATABASE pgbench TEMPLATE okmsd").await.expect("a database");
    okmsd.restart();

    let base = okmsd.v2("secret");
    let read = move |path: &str| Question::get(format!("{base}/{path}?includeData=true"));
    let base = okmsd.v2("secret");
    let write = move |path: &str| Question::post(format!("{base}/{path}/version"), new_version());
    // A server begins by reserving seals for thousands of writes, which is no part of each of them.
    okmsd.answer(&write(&path(0))).await;
    let cases: [(&str, usize, AskFor); 2] =
        [("read, 32", 32, Arc::new(read)), ("write, 64", 64, Arc::new(write))];
    for (case, connections, question) in cases {
        if !options.wants(case) {
            continue;
        }
        let script = recorder.record(&okmsd, &mut admin, &question(&recorder.path)).await;
        println!("\n{case}: pgbench sends\n{script}");
        let ask: Ask = Arc::new(move |random| question(&path(random.below(secrets))));
        let mut subjects: [Box<dyn Subject>; 2] = [
            Box::new(HttpSubject {
                name: OKMSD.to_owned(),
                process: okmsd.process(),
                target: okmsd.target(),
                protocol: Protocol::Http1 { connections },
                ask,
            }),
            Box::new(Pgbench::new(&of("pgbench"), &script, connections)),
        ];
        compare(case, &mut subjects, options, report).await;
        report.ratio((case, OKMSD), (case, PGBENCH), Quantity::Rate, Target::AtLeast(0.6));
    }
}

/// Asks for a path.
type AskFor = Arc<dyn Fn(&str) -> Question + Send + Sync>;

/// Changes settings of PostgreSQL, and waits until they count.
async fn set(admin: &mut PgConnection, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        let sql = format!("ALTER SYSTEM SET {name} = '{value}'");
        admin.execute(AssertSqlSafe(sql)).await.expect("a statement");
    }
    admin.execute("SELECT pg_reload_conf()").await.expect("a statement");
    for (name, value) in settings {
        for _ in 0..500 {
            // Without a parameter: it may be in the log that is read.
            let sql = AssertSqlSafe(format!("SHOW {name}"));
            let shown = sqlx::query_scalar::<_, String>(sql).fetch_one(&mut *admin).await;
            let shown = shown.expect("a setting");
            if shown == *value {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Makes scripts of pgbench from what PostgreSQL logs of one request.
struct Recorder {
    log: PathBuf,
    /// The secret that is asked for, whose numbers are those of nothing else.
    path: String,
    secret_id: i64,
    secrets: u64,
}

impl Recorder {
    /// Gives the secret numbers of its own in the database at `url`, where it is settled then.
    async fn prepare(okmsd: &Okmsd, url: &str, secrets: u64) -> Self {
        let path = path(secrets - 1);
        for _ in 1..VERSION - 1 {
            let versions = okmsd.v2(&format!("secret/{path}/version"));
            okmsd.answer(&Question::post(versions, new_version())).await;
        }
        let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
        let secret_id = sqlx::query_scalar("SELECT secret_id FROM secrets WHERE path = $1")
            .bind(&path)
            .fetch_one(&mut connection)
            .await
            .expect("the secret");
        connection.execute("VACUUM ANALYZE").await.expect("a statement");
        // Nobody may be connected to a database that is copied.
        connection.close().await.expect("to close");
        let folder = url.split_once("host=").expect("a socket").1;
        Self { log: Path::new(folder).join("postgres.log"), path, secret_id, secrets }
    }

    /// The script of what is sent for this question, with another secret each time.
    async fn record(&self, okmsd: &Okmsd, admin: &mut PgConnection, question: &Question) -> String {
        let before = fs::metadata(&self.log).expect("a log").len();
        set(admin, &[("log_statement", "all")]).await;
        okmsd.answer(question).await;
        set(admin, &[("log_statement", "none")]).await;
        let log = fs::read(&self.log).expect("a log");
        let log =
            String::from_utf8_lossy(&log[usize::try_from(before).expect("small")..]).into_owned();
        let script = self.script(&log);
        assert!(script.contains(":number"), "no statement in the log:\n{log}");
        assert!(!script.contains("UPDATE domain_keys"), "more than one request:\n{script}");
        script
    }

    fn script(&self, log: &str) -> String {
        let mut script = format!("\\set number random(0, {})\n", self.secrets - 1);
        let mut lines = log.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some((_, sql)) = line.split_once("statement: ")
                && ["BEGIN", "COMMIT"].contains(&sql)
            {
                script += &format!("{sql};\n");
            }
            let Some((_, sql)) = line.split_once("execute sqlx_s_") else { continue };
            let (_, sql) = sql.split_once(": ").expect("a statement after its name");
            let parameters = lines.peek().and_then(|line| line.split_once("arameters: "));
            let Some((_, parameters)) = parameters else { continue };
            let mut sql = sql.to_owned();
            // From behind: `$1` is the beginning of `$10`.
            for parameter in parameters.split(", $").collect::<Vec<_>>().into_iter().rev() {
                let (number, value) = parameter.split_once(" = ").expect("a parameter");
                let number = number.trim_start_matches('$');
                sql = sql.replace(&format!("${number}"), &self.general(value));
            }
            script += &sql;
            // Of the lock and of the snapshot come the numbers of what follows.
            script += match () {
                () if sql.ends_with("FOR UPDATE") => "\n\\gset\n",
                () if sql.contains("keys_found") => {
                    "\n\\gset\n\\set version :current_version + 1\n"
                }
                () => ";\n",
            };
        }
        script
    }

    /// A parameter of this request, for any request.
    fn general(&self, value: &str) -> String {
        let number = |number: i64| format!("'{number}'");
        match value {
            value if value == format!("'{}'", self.path) => "('bench/' || :number)".to_owned(),
            value if value == number(self.secret_id) => ":secret_id".to_owned(),
            value if value == number(VERSION) => ":version".to_owned(),
            value if value == number(VERSION - 9) => "greatest(:version - 9, 0)".to_owned(),
            value if value == number(VERSION - 10) => "(:version - 10)".to_owned(),
            value => value.to_owned(),
        }
    }
}

/// `pgbench` with a script.
struct Pgbench {
    folder: TempDir,
    url: String,
    connections: usize,
}

impl Pgbench {
    fn new(url: &str, script: &str, connections: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(SCRIPT), script).expect("a file");
        Self { folder, url: url.to_owned(), connections }
    }

    fn run(&self, seconds: u64, log: bool) -> Vec<u64> {
        let mut command = Command::new(PGBENCH);
        command.current_dir(&self.folder).args(["-n", "-M", "prepared", "-j", "2", "-f", SCRIPT]);
        command.args(["-c", &self.connections.to_string(), "-T", &seconds.to_string()]);
        if log {
            command.args(["--log", "--log-prefix", LOG]);
        }
        let output = command.arg(&self.url).output().expect("pgbench is needed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("aborted"), "pgbench: {errors}");
        let mut times = Vec::new();
        for file in fs::read_dir(&self.folder).expect("a folder") {
            let file = file.expect("a file").path();
            if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LOG)) {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a log");
            // The third word is how long a transaction took, in microseconds.
            let words = text.lines().filter_map(|line| line.split(' ').nth(2));
            times.extend(words.map(|word| word.parse::<u64>().expect("a number")));
            fs::remove_file(file).expect("a file");
        }
        times
    }
}

impl Subject for Pgbench {
    fn name(&self) -> &str {
        PGBENCH
    }

    fn has_pace(&self) -> bool {
        false
    }

    fn measure<'a>(&'a mut self, _: Pace, options: &'a Options) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let seconds = options.time.as_secs();
            tokio::task::block_in_place(|| {
                self.run(options.warm_up.as_secs().max(1), false);
                let mut times = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds");
                for time in self.run(seconds, true) {
                    times.saturating_record(time);
                }
                let (answers, seconds) = (times.len(), options.time.as_secs_f64());
                Measured { answers, seconds, times, usage: None }
            })
        })
    }
}

const PGBENCH: &str = "pgbench";
const SCRIPT: &str = "script.sql";
const LOG: &str = "transactions";

/// The version that the recorded write makes: with those that it prunes and keeps, numbers that no other
/// parameter has.
const VERSION: i64 = 24;
