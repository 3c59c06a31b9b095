//! The same requests to a live OpenBao, which has its data on the disk (raft), asks for client certificates and
//! writes its audit log to a file, in turns with okmsd as it comes.

#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/foreign.rs"]
mod foreign;
#[allow(dead_code, reason = "the tests start another kind of it")]
#[path = "../api/openbao/program.rs"]
mod program;
mod support;
#[allow(dead_code, reason = "each benchmark uses a part of it")]
#[path = "../support/tools.rs"]
mod tools;

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foreign::Ca;
use hyper::Method;
use serde_json::{Value, json};
use support::{
    Client, Options, Report, client,
    compare::{HttpSubject, OKMSD, Subject, compare},
    harness::Server,
    http::{Ask, Protocol, Question, Target, repeat},
    okmsd::{Okmsd, new_version, path},
    process, report,
    report::Quantity,
    tls_config,
};
use tempfile::TempDir;

fn main() {
    support::main("peer", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(50_000, 200);
    let okmsd = Okmsd::start();
    let bao = OpenBao::start(&okmsd).await;
    let mount = okmsd.v1("");
    let sides = [
        Side {
            name: OKMSD,
            process: okmsd.process(),
            target: okmsd.target(),
            mount: mount.trim_end_matches('/').to_owned(),
            token: None,
        },
        Side {
            name: OPENBAO,
            process: bao.server.process_id(),
            target: bao.target.clone(),
            mount: "/v1/secret".to_owned(),
            token: Some(bao.token.clone()),
        },
    ];
    for side in &sides {
        repeat(&side.target, secrets, side.asks(|side, number| side.write(number))).await;
        side.check_page().await;
    }
    let idle = sides.each_ref().map(Side::memory);
    let cases: [(&str, usize, SideAsk); 5] = [
        (READ, 32, |side, number| side.read(number)),
        (HOT_READ, 32, |side, _| side.read(0)),
        (WRITE, 64, |side, number| side.write(number)),
        (PAGE, 4, |side, _| side.page()),
        ("whole list, 1", 1, |side, _| side.list()),
    ];
    for (case, connections, ask) in cases {
        if !options.wants(case) {
            continue;
        }
        let subject = |side: &Side| {
            let (name, process, target) = (side.name.to_owned(), side.process, side.target.clone());
            let (protocol, asks) = (Protocol::Http1 { connections }, side.asks(ask));
            let asked = AtomicU64::new(0);
            // Another secret each time, until all had their turn.
            let ask: Ask =
                Arc::new(move |_| asks(asked.fetch_add(STRIDE, Ordering::Relaxed) % secrets));
            Box::new(HttpSubject { name, process, target, protocol, ask }) as Box<dyn Subject>
        };
        compare(case, &mut sides.each_ref().map(subject), options, report).await;
    }
    for (case, least) in [(READ, 10.0), (HOT_READ, 10.0), (WRITE, 6.0), (PAGE, 100.0)] {
        let least = report::Target::AtLeast(least);
        report.ratio((case, OKMSD), (case, OPENBAO), Quantity::Rate, least);
    }
    let busy = sides.each_ref().map(Side::memory);
    for (when, memory) in [("filled", idle), ("after the load", busy)] {
        for (side, memory) in sides.iter().zip(memory) {
            report.fact("memory", side.name, when, memory / MIB, "MiB");
        }
    }
    let most = report::Target::AtMost(0.25);
    let what = format!("memory of {OPENBAO}, after the load");
    report.number("memory", OKMSD, &what, busy[0] / busy[1], most);
}

/// Makes what a side is asked with a number.
type SideAsk = fn(&Side, u64) -> Question;

/// One of the two servers, as a client of KV2 knows it.
#[derive(Clone)]
struct Side {
    name: &'static str,
    process: u32,
    target: Target,
    mount: String,
    token: Option<String>,
}

impl Side {
    fn asks(&self, ask: SideAsk) -> impl Fn(u64) -> Question + Send + Sync + use<> {
        let side = self.clone();
        move |number| ask(&side, number)
    }

    fn read(&self, number: u64) -> Question {
        self.shown(Question::get(format!("{}/data/{}", self.mount, path(number))))
    }

    fn write(&self, number: u64) -> Question {
        let path = format!("{}/data/{}", self.mount, path(number));
        self.shown(Question::post(path, new_version()))
    }

    /// The first names of the folder, in the way of each.
    fn page(&self) -> Question {
        let list = format!("{}/metadata/bench?list=true", self.mount);
        match self.token {
            None => Question::get(list).with("x-pagination-size", "100"),
            Some(_) => self.shown(Question::get(format!("{list}&limit=100"))),
        }
    }

    fn list(&self) -> Question {
        self.shown(Question::get(format!("{}/metadata/bench?list=true", self.mount)))
    }

    /// The question with what its side wants to see beside the certificate.
    fn shown(&self, question: Question) -> Question {
        match &self.token {
            None => question,
            Some(token) => question.with("x-vault-token", token.clone()),
        }
    }

    async fn check_page(&self) {
        let answer = ask(&self.target, self.page()).await;
        let names = answer["data"]["keys"].as_array().expect("names").len();
        assert_eq!(names, 100, "{}: {answer}", self.name);
    }

    fn memory(&self) -> f64 {
        process::memory(self.process) as f64
    }
}

/// A running OpenBao.
struct OpenBao {
    target: Target,
    token: String,
    server: Server,
    _folder: TempDir,
}

impl OpenBao {
    /// Starts it with okmsd's server certificate, makes its store and opens it. Its clients come from another
    /// authority: Go refuses certificates of okmsd's, for the critical extension that says whose they are.
    async fn start(okmsd: &Okmsd) -> Self {
        let program = program::find_program().expect("OpenBao is needed");
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (raft, config) = (folder.path().join("raft"), folder.path().join("bao.hcl"));
        let (ca, authority) = (Ca::root("bench"), folder.path().join("authority.pem"));
        fs::write(&authority, &ca.pem).expect("a file");
        let (certificate, key) = ca.client("urn:v1:eu:identity:user:bench");
        let trusted = fs::read_to_string(okmsd.file("ca_certificate.pem")).expect("a file");
        let tls = tls_config(&trusted, Some((&certificate, &key)));
        fs::create_dir(&raft).expect("a folder");
        // Two at once, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [port, cluster] = ports.map(|port| port.local_addr().expect("an address"));
        let text = format!(
            r#"
            storage "raft" {{
              path = "{raft}"
              node_id = "bench"
            }}
            listener "tcp" {{
              address = "{port}"
              tls_cert_file = "{certificate}"
              tls_key_file = "{key}"
              tls_client_ca_file = "{authority}"
              tls_require_and_verify_client_cert = true
            }}
            audit "file" "bench" {{
              options {{
                file_path = "{audit}"
              }}
            }}
            api_addr = "https://{port}"
            cluster_addr = "https://{cluster}"
            "#,
            raft = raft.display(),
            certificate = okmsd.file("server_certificate.pem").display(),
            key = okmsd.file("server_privatekey.pem").display(),
            authority = authority.display(),
            audit = folder.path().join("audit.log").display(),
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new(program);
        command.args(["server", "-log-level=error", "-config"]).arg(&config);
        // What is set for a person's own OpenBao or Vault must not be heard here.
        for (name, _) in std::env::vars_os() {
            if matches!(name.to_string_lossy().split('_').next(), Some("BAO" | "VAULT")) {
                command.env_remove(name);
            }
        }
        command.env("HOME", folder.path()).stdin(Stdio::null());
        let log = folder.path().join("log");
        let ready = || fs::read_to_string(&log).is_ok_and(|log| log.contains("server started!"));
        let server = Server::start(command, &log, ready);
        let target = Target { address: port, tls };
        let token = open(&target).await;
        Self { target, token, server, _folder: folder }
    }
}

/// Makes the store, opens it, mounts KV2 as `secret`, and gives the root token.
async fn open(target: &Target) -> String {
    let post = |path: &str, body: Value| Question::post(format!("/v1/{path}"), body.to_string());
    let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let made = ask(target, post("sys/init", shares)).await;
    let token = made["root_token"].as_str().expect("a token").to_owned();
    ask(target, post("sys/unseal", json!({ "key": made["keys"][0] }))).await;
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    let shown = |question: Question| question.with("x-vault-token", token.clone());
    // It becomes active only now, and right after the mount makes versions of what it does not hold.
    until_success(target, || shown(post("sys/mounts/secret", mount.clone()))).await;
    until_success(target, || shown(Question::get("/v1/secret/config"))).await;
    token
}

async fn ask(target: &Target, question: Question) -> Value {
    let (status, body) = try_ask(target, &question).await;
    assert!(status < 300, "{}: {status} {}", question.path, String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap_or_default()
}

async fn until_success(target: &Target, question: impl Fn() -> Question) {
    for _ in 0..600 {
        if try_ask(target, &question()).await.0 < 300 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} does not succeed", question().path);
}

async fn try_ask(target: &Target, question: &Question) -> (u16, Bytes) {
    let base = format!("https://localhost:{}", target.address.port());
    let client = Client::http1(&base, target.tls.clone());
    let headers: Vec<_> =
        question.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (method, body): (Method, _) = (question.method.clone(), question.body.clone());
    let answer = client.send(method, &question.path, &headers, body).await;
    (answer.status, answer.body)
}

const HOT_READ: &str = "hot read, 32";
const READ: &str = "read, uniform, 32";
const WRITE: &str = "write, 64";
const PAGE: &str = "page of 100, 4";
const OPENBAO: &str = "OpenBao";

/// A prime, so that neighbours are not asked for one after the other.
const STRIDE: u64 = 7_919;
const MIB: f64 = 1024.0 * 1024.0;
