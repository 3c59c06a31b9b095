//! A service that runs for long: 90 % reads, 8 % writes, 1 % metadata and 1 % pages at a fixed rate, and whether memory,
//! open files or the database grow beyond what was written: then it fails.
//!
//! `OKMSD_BENCH_SECONDS=3600` is the hour that is meant; a line is printed each minute, or four in all where it is
//! shorter.

mod support;

use std::{
    fs,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{
    Options, Report, client,
    harness::files_below,
    http::{Ask, Protocol, Question},
    load::{Pace, run},
    okmsd::{DATABASE, Okmsd, new_version, path},
    process::memory,
    report::Target,
};

fn main() -> ExitCode {
    support::prove("soak", bench)
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(2_000, 50);
    let okmsd = Okmsd::start();
    okmsd.fill(secrets).await;
    let (base, written) = (okmsd.v2("secret"), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&written);
    let ask: Ask = Arc::new(move |random| {
        let path = path(random.below(secrets));
        match random.below(100) {
            ..90 => Question::get(format!("{base}/{path}?includeData=true")),
            90..98 => {
                counted.fetch_add(1, Ordering::Relaxed);
                Question::post(format!("{base}/{path}/version"), new_version())
            }
            98 => Question {
                method: hyper::Method::PUT,
                ..Question::post(
                    format!("{base}/{path}"),
                    r#"{"metadata":{"customMetadata":{"a":"b"}}}"#,
                )
            },
            _ => Question::get(base.clone()).with("x-pagination-size", "100"),
        }
    });
    let window = (options.time / 4).min(Duration::from_secs(60));
    let windows = options.time.as_millis().div_ceil(window.as_millis());
    println!(
        "{:>8} {:>8} {:>9} {:>10} {:>8} {:>12} {:>9} {:>10} {:>9}",
        "seconds",
        "per s",
        "p99 ms",
        "memory MiB",
        "files",
        "database MiB",
        "WAL MiB",
        "audit MiB",
        "versions"
    );
    let mut states = vec![State::of(&okmsd, 0)];
    for number in 1..=windows {
        // Connections are opened anew each time: those of before must leave nothing behind.
        let workers = okmsd.target().workers(Protocol::Http1 { connections: 32 }, &ask).await;
        let measured = run(workers, Pace::Rate(RATE), Duration::ZERO, window, None).await;
        // The server notices that a connection is closed a moment later.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let state = State::of(&okmsd, written.load(Ordering::Relaxed));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{:>8.0} {:>8.0} {:>9.2} {:>10.1} {:>8} {:>12.2} {:>9.2} {:>10.1} {:>9}",
            (window * u32::try_from(number).expect("not so long")).as_secs_f64(),
            measured.rate(),
            measured.times.value_at_quantile(0.99) as f64 / 1_000.0,
            mib(state.memory),
            state.files,
            mib(state.database),
            mib(state.wal),
            mib(state.audit),
            state.written,
        );
        states.push(state);
    }
    // Caches are full and connections of the store are open by then.
    let (early, last) = (&states[states.len() / 4], &states[states.len() - 1]);
    let case = "soak";
    let memory = last.memory as f64 / early.memory as f64;
    report.number(
        case,
        "okmsd",
        "memory at the end, of that after a quarter",
        memory,
        Target::AtMost(1.2),
    );
    let files = last.files as f64 - early.files as f64;
    report.number(
        case,
        "okmsd",
        "open files more than after a quarter",
        files,
        Target::AtMost(8.0),
    );
    // Those of the beginning too: the database gets them from the WAL some time.
    let each = last.database as f64 / (secrets + last.written) as f64;
    report.number(
        case,
        "okmsd",
        "bytes of the database for each version",
        each,
        Target::AtMost(1_024.0),
    );
    report.number(case, "okmsd", "bytes of the WAL", last.wal as f64, Target::AtMost(MOST_WAL));
}

/// What a server has at a moment.
struct State {
    memory: u64,
    files: usize,
    database: u64,
    wal: u64,
    audit: u64,
    /// Versions that were asked for until then.
    written: u64,
}

impl State {
    fn of(okmsd: &Okmsd, written: u64) -> Self {
        let size = |name: &str| fs::metadata(okmsd.file(name)).map_or(0, |file| file.len());
        let open = fs::read_dir(format!("/proc/{}/fd", okmsd.process())).expect("a process");
        let audit = files_below(&okmsd.file("audit"));
        Self {
            memory: memory(okmsd.process()),
            files: open.count(),
            database: size(DATABASE),
            wal: size(&format!("{DATABASE}-wal")),
            audit: audit
                .iter()
                .filter_map(|file| fs::metadata(file).ok())
                .map(|file| file.len())
                .sum(),
            written,
        }
    }
}

/// The log begins anew at 16 MiB, or later where somebody reads for long.
const MOST_WAL: f64 = 33_554_432.0;
/// Requests a second: far less than any machine takes, so that an hour tells of time and not of load.
const RATE: f64 = 300.0;
