//! Hostile clients: while each attack goes on, others get right answers; afterwards memory, connections and log are as
//! before. How fast they get them is for the benchmark of the same name.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    attacks::{Attack, Target, raise_open_files},
    client::{Client, tls_config},
    harness::{Server, Trial, okmsd, read},
    metrics::get,
};

#[tokio::test(flavor = "multi_thread")]
async fn healthy_clients_get_right_answers_while_others_attack() {
    let short = [
        // It would end most of them by itself.
        ("OKMSD_HANDSHAKE_RATE_PER_ADDRESS", "0"),
        ("OKMSD_HANDSHAKE_TIMEOUT", "1s"),
        ("OKMSD_HEADER_TIMEOUT", "1s"),
        ("OKMSD_BODY_TIMEOUT", "1s"),
    ];
    let scene = Scene::start(&short).await;
    // For all of them, so that memory which each takes a little of does not go unseen.
    let Measured { resident_kib, .. } = scene.measure();
    for attack in Attack::ALL {
        let before = Measured { resident_kib, ..scene.measure() };
        let (went, enough) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let waves = tokio::spawn({
            let (target, went, enough) =
                (scene.target.clone(), Arc::clone(&went), Arc::clone(&enough));
            async move {
                while !enough.load(Ordering::Acquire) {
                    attack.wave(&target).await;
                    went.store(true, Ordering::Release);
                }
            }
        });
        let mut answers = 0;
        // A whole wave at least, and all of the time in one.
        while (!went.load(Ordering::Acquire) && !waves.is_finished()) || answers < ANSWERS {
            scene.ask().await;
            answers += 2;
        }
        enough.store(true, Ordering::Release);
        waves.await.expect("the server ends what it must not bear");
        let connected = scene.target.connected.swap(0, Ordering::Relaxed);
        assert!(connected > 0 || attack == Attack::SlowHandshake, "{attack:?}: never begun");
        scene.assert_as_before(attack, &before, answers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_idle_connections_hurt_nobody() {
    let none = [
        ("OKMSD_CONNECTIONS_PER_ADDRESS", "0"),
        ("OKMSD_HANDSHAKE_RATE_PER_ADDRESS", "0"),
        ("OKMSD_HEADER_TIMEOUT", "10m"),
        ("OKMSD_IDLE_TIMEOUT", "10m"),
    ];
    let scene = Scene::start(&none).await;
    raise_open_files();
    let before = scene.measure();
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        let connect = (0..50).map(|_| scene.target.connect(&scene.target.stranger, "http/1.1"));
        for connection in join_all(connect).await {
            idle.push(connection.expect("a place"));
        }
        scene.ask().await;
    }
    assert!(scene.connections() >= IDLE, "all are held");
    let memory = resident_kib(&scene.server);
    println!(
        "{} KiB for each idle connection",
        memory.saturating_sub(before.resident_kib) / IDLE as u64
    );
    assert!(memory < before.resident_kib + 100 * IDLE as u64, "{memory} KiB");
    drop(idle);
    scene.assert_as_before("idle connections", &before, IDLE / 25).await;
}

/// A server with a secret.
struct Scene {
    _trial: Trial,
    server: Server,
    log: std::path::PathBuf,
    operations: SocketAddr,
    target: Target,
    /// One that keeps its connection.
    client: Client,
    ca: String,
    identity: (String, String),
    endpoint: String,
}

/// What must be as before when an attack is over.
struct Measured {
    resident_kib: u64,
    log_bytes: u64,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let mut trial = Trial::start();
        trial.stop();
        let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
        let (api, operations) = (free(), free());
        let (cwd, listen) = (trial.cwd.path(), api.to_string());
        let arguments = ["serve", "--config", "certs/dev/okmsd.toml", "--docs-listen", "off"];
        let mut command = okmsd(cwd, &[&arguments[..], &["--api-listen", &listen]].concat());
        command.env("OKMSD_OPERATIONS_LISTEN", operations.to_string());
        command.envs(settings.iter().copied());
        let log = cwd.join("serve.log");
        let server = Server::start(command, &log, || TcpStream::connect(operations).is_ok());
        let file = |name| read(trial.variable(name).as_ref());
        let (ca, identity) = (file("OKMS_CA"), (file("OKMS_CERT"), file("OKMS_KEY")));
        let caller = tls_config(&ca, Some((&identity.0, &identity.1)));
        let endpoint = format!("https://localhost:{}", api.port());
        let client = Client::new(&endpoint, caller.clone());
        let secret = format!("{}/a", trial.secrets());
        let body =
            format!(r#"{{"path":"a","version":{{"data":{{"k":"{}"}}}}}}"#, "v".repeat(1_000));
        client.post(&trial.secrets(), body).await.ok();
        let stranger = tls_config(&ca, None);
        let connected = Arc::default();
        let target = Target { address: api, stranger, caller, secret, connected };
        Self { _trial: trial, server, log, operations, target, client, ca, identity, endpoint }
    }

    /// A read on an open connection and one on a new one.
    async fn ask(&self) {
        let identity = Some((&*self.identity.0, &*self.identity.1));
        let fresh = Client::new(&self.endpoint, tls_config(&self.ca, identity));
        for client in [&self.client, &fresh] {
            let secret = client.get(&format!("{}?includeData=true", self.target.secret)).await.ok();
            assert_eq!(secret["version"]["data"]["k"].as_str().map(str::len), Some(1_000));
        }
    }

    /// How many there are.
    fn connections(&self) -> usize {
        let metrics = get(self.operations, "/metrics");
        let name = "okmsd_connections{listener=\"api\"} ";
        let number = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        number.expect("a number")
    }

    fn measure(&self) -> Measured {
        let log_bytes = fs::metadata(&self.log).expect("a log").len();
        Measured { resident_kib: resident_kib(&self.server), log_bytes }
    }

    /// Checks that nothing of an attack stays.
    async fn assert_as_before(
        &self,
        attack: impl std::fmt::Debug,
        before: &Measured,
        answers: usize,
    ) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let open = loop {
            self.ask().await;
            let open = self.connections();
            let after = self.measure();
            let memory_returned = after.resident_kib < before.resident_kib + MEMORY_KIB;
            // The healthy client's, and one that it has just left.
            if open <= 2 && memory_returned {
                break open;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{attack:?}: {open} connections, {} KiB", after.resident_kib);
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let after = self.measure();
        let (log, memory) = (after.log_bytes - before.log_bytes, after.resident_kib);
        println!(
            "{attack:?}: {answers} right answers; memory {} to {memory} KiB, log {log} bytes, {open} connections",
            before.resident_kib,
        );
        assert!(log < LOG_BYTES, "{attack:?}: {log} bytes of log");
    }
}

fn resident_kib(server: &Server) -> u64 {
    let status = read(format!("/proc/{}/status", server.process_id()).as_ref());
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Right answers during an attack, at least.
const ANSWERS: usize = 40;
const IDLE: usize = 5_000;
/// What an allocator and caches may keep of any load.
const MEMORY_KIB: u64 = 64 * 1_024;
/// What a wave may leave in the log.
const LOG_BYTES: u64 = 4 * 1_024 * 1_024;
