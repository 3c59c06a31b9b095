//! Three nodes of PostgreSQL with Patroni, and an etcd, on ports of loopback.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::balancer::{ask, status};

/// Ports of a node.
#[derive(Clone, Copy)]
pub struct Node {
    pub postgres: u16,
    pub rest: u16,
}

pub struct Cluster {
    folder: TempDir,
    nodes: [Node; 3],
    patronis: [Option<Child>; 3],
    etcd: Child,
}

fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists())
}

impl Cluster {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "a user named postgres");
        }
        let ports = free_ports();
        let node = |at: usize| Node { postgres: ports[2 * at], rest: ports[2 * at + 1] };
        let (client, peer) = (ports[6], ports[7]);
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut etcd = unprivileged(folder.path(), "etcd");
        etcd.args(["--data-dir", "etcd", "--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url, "--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")]);
        let etcd = spawn(etcd, &folder.path().join("etcd.log"));
        let nodes = [node(0), node(1), node(2)];
        let mut cluster = Self { folder, nodes, patronis: [None, None, None], etcd };
        for (number, node) in nodes.iter().enumerate() {
            let file = cluster.folder.path().join(format!("{number}.yml"));
            let text = configuration(cluster.folder.path(), number, *node, client);
            fs::write(&file, text).expect("a file");
            cluster.start_node(number);
        }
        cluster
    }

    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.to_vec()
    }

    /// The URL of the primary itself.
    pub async fn url(&self) -> String {
        let port = self.nodes[self.primary().await].postgres;
        format!("postgres://okmsd@127.0.0.1:{port}/postgres")
    }

    /// The URL of one that is not the primary.
    pub async fn url_of_a_standby(&self) -> String {
        let port = self.nodes[(self.primary().await + 1) % 3].postgres;
        format!("postgres://okmsd@127.0.0.1:{port}/postgres")
    }

    /// Which node is the primary.
    pub async fn primary(&self) -> usize {
        self.has_primary(|_| true).await
    }

    /// Waits until another node has taken the place of this one.
    pub async fn has_another_primary(&self, lost: usize) {
        self.has_primary(|node| node != lost).await;
    }

    async fn has_primary(&self, counts: impl Fn(usize) -> bool) -> usize {
        let deadline = Instant::now() + LONG;
        loop {
            for (number, node) in self.nodes.iter().enumerate() {
                if counts(number) && status(node.rest, "/primary").await == Some(200) {
                    return number;
                }
            }
            self.wait(deadline, "a primary").await;
        }
    }

    /// Waits until there are a primary, a synchronous standby and another one.
    pub async fn is_whole(&self) {
        let deadline = Instant::now() + LONG;
        loop {
            let (mut primaries, mut synchronous, mut standbys) = (0, 0, 0);
            for node in &self.nodes {
                let is = async |what: &str| usize::from(status(node.rest, what).await == Some(200));
                primaries += is("/primary").await;
                synchronous += is("/synchronous").await;
                standbys += is("/replica").await;
            }
            if (primaries, synchronous, standbys) == (1, 1, 2) {
                return;
            }
            self.wait(deadline, "three nodes").await;
        }
    }

    async fn wait(&self, deadline: Instant, what: &str) {
        if Instant::now() > deadline {
            let logs = (0..3).map(|number| {
                let log = self.folder.path().join(format!("{number}.log"));
                let log = fs::read_to_string(log).unwrap_or_default();
                log[log.len().saturating_sub(3_000)..].to_owned()
            });
            panic!("there are not {what}:\n{}", logs.collect::<Vec<_>>().join("\n===\n"));
        }
        sleep(Duration::from_millis(200)).await;
    }

    pub fn start_node(&mut self, number: usize) {
        let mut patroni = unprivileged(self.folder.path(), "patroni");
        patroni.arg(format!("{number}.yml")).env("HOME", self.folder.path());
        let log = self.folder.path().join(format!("{number}.log"));
        self.patronis[number] = Some(spawn(patroni, &log));
    }

    /// Ends a node as a power cut does: its Patroni and its PostgreSQL.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut patroni) = self.patronis[number].take() {
            patroni.kill().expect("it runs");
            patroni.wait().expect("a child");
        }
        self.kill_postgres(number);
    }

    /// Ends the PostgreSQL of a node, with all that serve its connections.
    pub fn kill_postgres(&self, number: usize) {
        let file = fs::read_to_string(self.data(number).join("postmaster.pid"));
        let Some(id) = file.ok().and_then(|text| text.lines().next()?.parse::<i32>().ok()) else {
            return;
        };
        // The file may be of one that has ended, and its number another process's by now.
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if !command.contains(&*self.data(number).to_string_lossy()) {
            return;
        }
        let children = children(id);
        for id in [vec![id], children].concat() {
            // Some end with the first.
            let _ = Pid::from_raw(id).map(|id| kill_process(id, Signal::KILL));
        }
    }

    /// Makes a standby the primary in good order.
    pub async fn switch_over(&self) {
        let deadline = Instant::now() + LONG;
        loop {
            let primary = self.primary().await;
            let body = format!(r#"{{"leader":"n{primary}"}}"#);
            let answer = ask(self.nodes[primary].rest, "POST", "/switchover", &body).await;
            if answer.is_some_and(|answer| answer.contains(" 200 ")) {
                return self.has_another_primary(primary).await;
            }
            // 412: no standby is synchronous just now.
            self.wait(deadline, "a standby to switch to").await;
        }
    }

    fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("data{number}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..3).for_each(|number| self.kill(number));
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

/// As JSON, which is YAML. Without fsync: here a process ends, and the machine does not.
fn configuration(folder: &Path, number: usize, node: Node, etcd: u16) -> String {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let hba = [
        "local all all trust",
        "host all all 127.0.0.1/32 trust",
        "host replication all 127.0.0.1/32 trust",
    ];
    let user = |name: &str| serde_json::json!({ "username": name });
    let value: Value = serde_json::json!({
        "scope": "okmsd",
        "name": format!("n{number}"),
        "restapi": { "listen": at(node.rest), "connect_address": at(node.rest) },
        "etcd3": { "host": at(etcd) },
        "bootstrap": {
            "dcs": {
                "ttl": 20,
                "loop_wait": 1,
                "retry_timeout": 5,
                "synchronous_mode": true,
                "synchronous_mode_strict": true,
                "postgresql": {
                    "use_pg_rewind": true,
                    "parameters": { "fsync": "off", "wal_log_hints": "on", "max_connections": 100 },
                },
            },
            "initdb": [{ "encoding": "UTF8" }, { "locale": "C" }, "data-checksums"],
        },
        "postgresql": {
            "listen": at(node.postgres),
            "connect_address": at(node.postgres),
            "data_dir": folder.join(format!("data{number}")),
            "bin_dir": binaries(),
            "pgpass": folder.join(format!("pgpass{number}")),
            "parameters": { "unix_socket_directories": folder },
            "pg_hba": hba,
            "authentication": {
                "superuser": user("okmsd"),
                "replication": user("replicator"),
                "rewind": user("okmsd"),
            },
        },
    });
    value.to_string()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command in a folder. PostgreSQL refuses to run as root.
fn unprivileged(folder: &Path, program: &str) -> Command {
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", program];
            command.args(user);
            command
        }
        false => Command::new(program),
    };
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let file = fs::File::options().append(true).create(true).open(log).expect("a log");
    let output = file.try_clone().expect("a second handle");
    command.stdout(output).stderr(file).spawn().expect("it runs")
}

/// The processes that a process has started.
fn children(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |id: &i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name, which is in parentheses: the state, and the parent.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == Some(parent)
    };
    ids.filter(is_child).collect()
}

/// Ports that nobody has now. Not of those that the system gives to outgoing connections: one of them might have a
/// node's port when that is started again.
fn free_ports() -> Vec<u16> {
    let first = 20_000 + u16::try_from(std::process::id() % 1_000).expect("a small number") * 12;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<_> = (first..32_700).filter(is_free).take(8).collect();
    assert_eq!(ports.len(), 8, "ports");
    ports
}

/// Longer than Patroni takes to see that a primary is lost, and to bring a node back.
const LONG: Duration = Duration::from_secs(90);
