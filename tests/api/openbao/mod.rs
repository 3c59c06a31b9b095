//! KV2 compared with a live OpenBao: random sequences of calls are sent to both, and each answer must have the
//! same status and the same body, but for the differences on purpose. Those stand in one table with their
//! reasons; a difference that is in no row of it fails, and so does a row that does not occur.
//!
//! | file | what it owns |
//! |---|---|
//! | `program` | finds OpenBao, or installs it, and runs it |
//! | `requests` | what is asked, as HTTP and as text |
//! | `random` | how requests are made up |
//! | `replay` | sends a sequence to both and compares |
//! | `differences` | the table |
//!
//! `OKMSD_OPENBAO_SEQUENCES` says how many sequences are tried on each engine (30 where it is not set). What
//! fails is shrunk, and printed with the seed: `OKMSD_OPENBAO_SEED` tries the same sequences again.

mod differences;
mod program;
mod random;
mod replay;
mod requests;

use std::{
    env,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;
use uuid::Uuid;

use self::{
    differences::DIFFERENCES,
    program::{OpenBao, openbao},
    replay::Pair,
    requests::Request,
};
use crate::support::{Engine, Server, postgres_is_at_hand};

#[test]
fn sqlite_answers_as_openbao() {
    compare(Engine::Sqlite);
}

#[test]
fn postgres_answers_as_openbao() {
    if postgres_is_at_hand() {
        compare(Engine::Postgres);
    }
}

fn compare(engine: Engine) {
    let Some(bao) = openbao() else { return };
    let sequences = number("OKMSD_OPENBAO_SEQUENCES").unwrap_or(DEFAULT_SEQUENCES);
    let seed = number("OKMSD_OPENBAO_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    let started = Instant::now();
    let (requests, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures: Vec<String> = thread::scope(|scope| {
        let (requests, stop) = (&requests, &stop);
        let examples = scope.spawn(move || try_examples(engine, bao));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let cases = sequences / WORKERS + u64::from(worker < sequences % WORKERS);
                scope.spawn(move || {
                    let cases = u32::try_from(cases).expect("fewer than 2^32 sequences");
                    try_sequences(engine, bao, cases, seed.wrapping_add(worker), requests, stop)
                })
            })
            .collect();
        let found = workers.into_iter().map(|worker| worker.join().expect("a worker").err());
        let found = found.collect::<Vec<_>>().into_iter().flatten();
        found.chain(examples.join().expect("the examples")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    // Past the capture of the standard library's macros: that it ran is worth a line in every log.
    let _ = writeln!(
        std::io::stderr(),
        "OpenBao, {engine:?}: {sequences} sequences with {} requests in {seconds:.1} s, \
         OKMSD_OPENBAO_SEED={seed}",
        requests.into_inner(),
    );
    assert!(
        failures.is_empty(),
        "\n{}\nOKMSD_OPENBAO_SEED={seed} tries this again\n",
        failures.join("\n\n")
    );
}

/// Tries the example of each row of the table, and gives what fails. A row that does not occur in its example
/// says what is not so any more.
fn try_examples(engine: Engine, bao: &OpenBao) -> Vec<String> {
    let (runtime, mut server) = start(engine);
    let pair = Pair::new(&server, bao);
    let mut failures = Vec::new();
    for difference in DIFFERENCES {
        let example: Vec<_> = difference.example.iter().map(|line| Request::parse(line)).collect();
        match runtime.block_on(pair.replay(&example)) {
            Err(story) => failures.push(format!("the example of `{}`:\n{story}", difference.name)),
            Ok(replayed) if !replayed.occurred.contains(&difference.name) => {
                failures.push(format!(
                    "`{}` ({}) does not occur in its example",
                    difference.name, difference.reason
                ));
            }
            Ok(_) => {}
        }
    }
    let expiry: Vec<_> = EXPIRY.iter().map(|line| Request::parse(line)).collect();
    failures.extend(runtime.block_on(pair.replay(&expiry)).err());
    runtime.block_on(server.stop());
    failures
}

/// Tries sequences until one fails, here or in another worker.
fn try_sequences(
    engine: Engine,
    bao: &OpenBao,
    sequences: u32,
    seed: u64,
    requests: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<(), String> {
    let (runtime, mut server) = start(engine);
    let pair = Pair::new(&server, bao);
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    let failed_here = AtomicBool::new(false);
    let result = TestRunner::new_with_rng(config, rng).run(&random::sequence(), |sequence| {
        if stop.load(Ordering::Relaxed) && !failed_here.load(Ordering::Relaxed) {
            return Ok(());
        }
        match runtime.block_on(pair.replay(&sequence)) {
            Ok(replayed) => {
                requests.fetch_add(replayed.requests, Ordering::Relaxed);
                Ok(())
            }
            Err(story) => {
                stop.store(true, Ordering::Relaxed);
                failed_here.store(true, Ordering::Relaxed);
                Err(TestCaseError::fail(story))
            }
        }
    });
    let told = match result {
        Ok(()) => Ok(()),
        // Told from the shortest sequence, which need not be the last one that was tried.
        Err(TestError::Fail(reason, sequence)) => {
            let story = runtime.block_on(pair.replay(&sequence)).err();
            Err(format!(
                "{engine:?} and OpenBao disagree:\n{}",
                story.unwrap_or_else(|| format!("{reason}\n(the shortest sequence passed again)"))
            ))
        }
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    };
    runtime.block_on(server.stop());
    told
}

/// A server, and the runtime that it shares with its client.
fn start(engine: Engine) -> (Runtime, Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(Server::start(engine));
    (runtime, server)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Versions that end by themselves, and what can be done to them then.
const EXPIRY: [&str; 15] = [
    r#"PUT metadata/a {"delete_version_after":"1s"}"#,
    r#"PUT data/a {"data":{"k":"v"}}"#,
    "GET data/a",
    "GET subkeys/a?depth=1",
    "GET data/a?version=1",
    r#"PATCH data/a {"data":{"k":"w"}}"#,
    "DELETE data/a",
    r#"PUT undelete/a {"versions":[1]}"#,
    "GET data/a",
    r#"PUT metadata/a {"delete_version_after":"2h"}"#,
    r#"PUT undelete/a {"versions":[1]}"#,
    r#"PATCH data/a {"data":{"k":"w"}}"#,
    r#"PUT config {"delete_version_after":"1s"}"#,
    r#"PUT data/d {"data":{}}"#,
    r#"PUT destroy/d {"versions":[1]}"#,
];

/// Half a minute: some of it is waiting for versions to end.
const DEFAULT_SEQUENCES: u64 = 30;
/// Each waits for the disk and for OpenBao most of the time.
const WORKERS: u64 = 3;
