//! A PostgreSQL of its own that can be killed as a whole, with all that makes it durable.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// A cluster on a socket in a folder of its own. It ends when it is dropped.
pub struct Cluster {
    folder: TempDir,
    binaries: PathBuf,
    server: Option<Child>,
}

impl Cluster {
    pub async fn start(binaries: PathBuf) -> Self {
        // Not the folder of the build, whose path may be too long for a socket.
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        if getuid().is_root() {
            // PostgreSQL refuses to run as root.
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "a user named postgres");
        }
        let mut cluster = Self { folder, binaries, server: None };
        let mut command = cluster.command("initdb");
        command.args(["-A", "trust", "-U", "okmsd", "-E", "UTF8", "--locale=C"]);
        assert!(command.status().expect("initdb").success());
        cluster.restart().await;
        cluster
    }

    pub fn url(&self) -> String {
        format!("postgres://okmsd@localhost/postgres?host={}", self.folder.path().display())
    }

    /// Starts it after it was killed, and waits until it has recovered.
    pub async fn restart(&mut self) {
        assert!(self.server.is_none(), "it runs");
        self.server = Some(self.spawn());
        let deadline = Instant::now() + WAIT;
        while self.connect().await.is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start: {}", self.last_words());
            let ended = self.server.as_mut().and_then(|server| server.try_wait().expect("a child"));
            // It may have found something of those that were killed, which are not gone at once.
            if ended.is_some() {
                self.server = Some(self.spawn());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn(&self) -> Child {
        let mut command = self.command("postgres");
        command.arg("-k").arg(self.folder.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "full_page_writes=on"]);
        command.spawn().expect("postgres")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Kills all its processes, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let file = self.data().join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&file) else {
            // It ended by itself, or has hardly begun.
            let _ended = server.kill();
            server.wait().expect("a child");
            return;
        };
        let postmaster = text.lines().next().and_then(|line| line.parse().ok()).expect("a number");
        // So that it starts none anew, nor tidies up.
        signal(postmaster, Signal::STOP);
        let children = children(postmaster);
        for process in [&[postmaster], &children[..]].concat() {
            signal(process, Signal::KILL);
        }
        server.wait().expect("a child");
        // A shared memory that a process still has would keep the next one from starting.
        fs::remove_file(file).expect("to remove");
    }

    /// Waits until no program is served any more: a commit that was sent may be done after its sender was killed.
    pub async fn settle(&self) {
        let deadline = Instant::now() + WAIT;
        let mut connection = self.connect().await.expect("PostgreSQL");
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.expect("a count")
            > 0
        {
            assert!(Instant::now() < deadline, "a client is still served");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        connection.close().await.expect("to close");
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url()).await
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let path = self.binaries.join(program);
        let mut command = match getuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
                command.args(user).arg(path);
                command
            }
            false => Command::new(path),
        };
        let log = self.folder.path().join(format!("{program}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        command.arg("-D").arg(self.data()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(process: i32, signal: Signal) {
    // One that has just ended by itself is as good as killed.
    let _ended = kill_process(Pid::from_raw(process).expect("a process id"), signal);
}

fn children(parent: i32) -> Vec<i32> {
    let is_child = |process: &i32| {
        let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
        let stat = stat.unwrap_or_default();
        // Behind the name, which is in parentheses and may have anything in it: the state, the parent.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(is_child).collect()
}

/// Long, because tests share a machine.
const WAIT: Duration = Duration::from_secs(60);
