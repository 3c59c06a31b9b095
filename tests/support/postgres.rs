//! A PostgreSQL for the tests.
//!
//! `OKMSD_TEST_POSTGRES` names one; else a throw-away cluster is made with the binaries on this
//! machine, and ends with the test process. Where there are none, tests on PostgreSQL are left out and
//! that is said aloud; in CI it is a failure.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

/// Whether tests on PostgreSQL can run.
pub fn postgres_is_at_hand() -> bool {
    base_url().is_some()
}

/// A schema of its own for one test.
pub struct Schema {
    name: String,
    /// Where it is another server's than the usual one.
    base: String,
}

impl Schema {
    /// Makes an empty schema.
    pub async fn create() -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&base()).await.expect("PostgreSQL");
        let sql = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        connection.execute(sql).await.expect("a schema");
        connection.close().await.expect("to close");
        Self { name, base: base() }
    }

    /// The same schema, reached by another way.
    #[must_use]
    pub fn through(mut self, base: String) -> Self {
        self.base = base;
        self
    }

    /// A URL whose connections see this schema alone.
    pub fn url(&self) -> String {
        let base = &self.base;
        let joint = if base.contains('?') { '&' } else { '?' };
        format!("{base}{joint}options[search_path]={}", self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // In a thread of its own, since the test's runtime may be ending; errors only leave litter in a
        // throw-away database.
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime
                .block_on(async {
                    let mut connection = PgConnection::connect(&base()).await?;
                    let sql = sqlx::AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"));
                    connection.execute(sql).await?;
                    connection.close().await
                })
                .map_err(std::io::Error::other)
        });
        let _ = dropped.join();
    }
}

fn base() -> String {
    base_url().expect("PostgreSQL is at hand")
}

/// The URL of the database that schemas are made in.
pub fn base_url() -> Option<String> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("OKMSD_TEST_POSTGRES") {
            return Some(url);
        }
        let found = find_binaries().map(|binaries| start_cluster(&binaries));
        if found.is_none() {
            let message = "PostgreSQL was not found: put `initdb` and `postgres` on the PATH or \
                           set OKMSD_TEST_POSTGRES";
            assert!(std::env::var_os("CI").is_none(), "{message}");
            // Not through a macro of the standard library: those are captured.
            let _ = writeln!(
                std::io::stderr(),
                "\n=== LEFT OUT: every test on PostgreSQL. {message} ===\n"
            );
        }
        found
    })
    .clone()
}

/// The folder of `initdb` and `postgres`.
pub fn find_binaries() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    on_path
        .chain(debian)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// Starts a cluster on a socket in a folder of its own. What makes it quick and unsafe is in its file, so that a
/// benchmark can undo it. It ends when this process does: the shell
/// that started it waits for the end of its input, which this process holds.
fn start_cluster(binaries: &Path) -> String {
    let folder = PathBuf::from(format!("/tmp/okmsd-test-pg-{}", Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).expect("a folder for PostgreSQL");
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let script = format!(
        "'{bin}/initdb' -D '{dir}/data' -A trust -U okmsd -E UTF8 --locale=C >'{dir}/initdb.log' 2>&1 \
         || exit 1; \
         printf 'fsync = off\\nfull_page_writes = off\\n' >>'{dir}/data/postgresql.conf'; \
         '{bin}/postgres' -D '{dir}/data' -k '{dir}' -c listen_addresses= -c max_connections=300 \
         >'{dir}/postgres.log' 2>&1 & \
         server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf '{dir}'",
        bin = binaries.display(),
        dir = folder.display()
    );
    let mut command = if is_root {
        // PostgreSQL refuses to run as root.
        let owned = Command::new("chown").arg("postgres").arg(&folder).status();
        assert!(owned.is_ok_and(|status| status.success()), "a user named postgres");
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh", "-c", &script]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    };
    let child = command.stdin(Stdio::piped()).spawn().expect("a shell for PostgreSQL");
    let url = format!("postgres://okmsd@localhost/postgres?host={}", folder.display());
    wait_until_ready(&url, &folder);
    // The child must live, and its input stay open, until the process ends.
    static CHILD: OnceLock<Child> = OnceLock::new();
    assert!(CHILD.set(child).is_ok(), "one cluster a process");
    url
}

fn wait_until_ready(url: &str, folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let url = url.to_owned();
    let ready = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            while Instant::now() < deadline {
                if let Ok(connection) = PgConnection::connect(&url).await {
                    return connection.close().await.is_ok();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        })
    });
    let log = folder.join("initdb.log");
    assert!(
        ready.join().expect("no panic"),
        "PostgreSQL did not start: {}",
        std::fs::read_to_string(log).unwrap_or_default()
    );
}
