//! Durable writes: new versions of distinct secrets and of one. `disk` appends as many bytes as okmsd has had
//! written for an answer, with one sync for a group as large as there are connections; `one commit` is the same
//! server with a commit for each write and no queue.

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
use support::{
    Options, Report, client,
    compare::{HttpSubject, OKMSD, Subject, compare},
    http::{self, Ask, Protocol, Question},
    load::{self, Measured, Pace, Worker},
    okmsd::{DATA, Okmsd, new_version, path},
    one_commit::OneCommit,
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
    let one_commit = OneCommit::of(&okmsd);
    okmsd.restart();
    let distinct = distinct(&okmsd, secrets);
    let hot = hot(&okmsd);
    for server in [&okmsd.target(), &one_commit.target] {
        fill_hot(&okmsd, server).await;
    }
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
    let server = |name: &str, process, target| HttpSubject {
        name: name.to_owned(),
        process,
        target,
        protocol: Protocol::Http1 { connections },
        ask: ask.clone(),
    };
    let mut ours = server(OKMSD, okmsd.process(), okmsd.target());
    let measured = ours.measure(Pace::Closed, options).await;
    let written = measured.usage.as_ref().expect("a process").written / measured.answers.max(1);
    let bytes = usize::try_from(written).expect("a small number");
    let mut subjects: Vec<Box<dyn Subject + '_>> =
        vec![Box::new(ours), Box::new(Disk::new(connections, bytes))];
    if connections == 1 || connections == 64 {
        let one_commit = server(ONE_COMMIT, one_commit.process(), one_commit.target.clone());
        subjects.push(Box::new(one_commit));
    }
    compare(case, &mut subjects, options, report).await;
}

fn judge(report: &mut Report) {
    let (one, many) = (case("distinct", 1), case("distinct", 64));
    for (case, least) in [(&one, 0.9), (&many, 5.0)] {
        let target = Target::AtLeast(least);
        report.ratio((case, OKMSD), (case, ONE_COMMIT), Quantity::Rate, target);
    }
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
        // Another secret each time, until all had their turn; those of a group are no neighbours.
        let path = path(asked.fetch_add(STRIDE, Ordering::Relaxed) % secrets);
        Question::post(format!("{base}/{path}/version"), new_version())
    })
}

/// Makes the secrets of [`hot`].
async fn fill_hot(okmsd: &Okmsd, server: &http::Target) {
    let secrets = okmsd.v2("secret");
    http::repeat(server, HOT_SECRETS, move |number| {
        let body = format!(r#"{{"path":"hot/{number}","version":{{"data":{DATA}}}}}"#);
        Question::post(&secrets, body)
    })
    .await;
}

/// One secret at a time. The numbers of its versions end, so there are some to go on with.
fn hot(okmsd: &Okmsd) -> Ask {
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

const ONE_COMMIT: &str = "one commit";

/// A prime number that does not divide the number of secrets.
const STRIDE: u64 = 7_919;

/// What one secret is given of versions: fewer than the 24,000 that it can have.
const VERSIONS_OF_HOT: u64 = 20_000;
/// Four million writes, more than a run makes.
const HOT_SECRETS: u64 = 200;
