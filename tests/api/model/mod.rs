//! Random sequences of all operations of both API sets, mixed on the same secrets, sent to a real server
//! and compared, answer by answer, with a model of the rules that was written from the contract and shares
//! no code with the program.
//!
//! | file | what it owns |
//! |---|---|
//! | `requests` | what may be asked, as HTTP and as text |
//! | `random` | how requests are made up |
//! | `rules` | the model: what must be answered |
//! | `replay` | sends a sequence and compares |
//!
//! `OKMSD_MODEL_SEQUENCES` says how many sequences are tried on each engine (300 where it is not set).
//! What fails is shrunk, and printed with the seed: `OKMSD_MODEL_SEED` tries the same sequences again.

mod random;
mod replay;
mod requests;
mod rules;

use std::{
    collections::BTreeSet,
    env,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use uuid::Uuid;

use self::requests::{Request, Sequence};
use crate::{
    document,
    support::{Engine, Server, postgres_is_at_hand},
};

/// A sequence that asks for less than all proves less than it seems to.
#[test]
fn every_operation_on_secrets_is_in_the_sequences() {
    let (mut runner, sequences) = (TestRunner::deterministic(), random::sequence());
    let id = Uuid::nil().to_string();
    let mut asked = BTreeSet::new();
    for _ in 0..300 {
        let Sequence { requests, .. } = sequences.new_tree(&mut runner).expect("one").current();
        for wire in requests
            .iter()
            .flat_map(Request::steps)
            .filter_map(|request| request.wire(&id, 1, None))
        {
            let path = wire.target.split('?').next().unwrap_or_default().to_owned();
            asked.insert((wire.method.to_string(), path));
        }
    }
    for operation in document::operations() {
        // Neither is about secrets.
        if operation.is_of_vault() || operation.id() == "ListServiceKeys" {
            continue;
        }
        for method in operation.methods() {
            let is_asked = |(by, path): &(String, String)| by == method && operation.is_at(path);
            assert!(asked.iter().any(is_asked), "{method} {} is in none", operation.id());
        }
    }
}

#[test]
fn sqlite_answers_as_the_model() {
    try_sequences(Engine::Sqlite);
}

#[test]
fn postgres_answers_as_the_model() {
    if postgres_is_at_hand() {
        try_sequences(Engine::Postgres);
    }
}

/// Tries random sequences, in several threads with a server each: the clock belongs to a server, and
/// a sequence moves it.
fn try_sequences(engine: Engine) {
    let sequences = number("OKMSD_MODEL_SEQUENCES").unwrap_or(DEFAULT_SEQUENCES);
    let seed = number("OKMSD_MODEL_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    let started = Instant::now();
    let (requests, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let cases = sequences / WORKERS + u64::from(worker < sequences % WORKERS);
                let (requests, stop) = (&requests, &stop);
                scope.spawn(move || {
                    let cases = u32::try_from(cases).expect("fewer than 2^32 sequences");
                    work(engine, cases, seed.wrapping_add(worker), requests, stop)
                })
            })
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("a worker").err()).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    // Past the capture of the standard library's macros: that it ran is worth a line in every log.
    let _ = writeln!(
        std::io::stderr(),
        "model, {engine:?}: {sequences} sequences with {} requests in {seconds:.1} s ({:.0}/s), \
         OKMSD_MODEL_SEED={seed}",
        requests.into_inner(),
        sequences as f64 / seconds,
    );
    assert!(
        failures.is_empty(),
        "\n{}\nOKMSD_MODEL_SEED={seed} tries this again\n",
        failures.join("\n\n")
    );
}

/// Tries sequences until one fails, here or in another worker.
fn work(
    engine: Engine,
    sequences: u32,
    seed: u64,
    requests: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<(), String> {
    // Server and client take turns in one thread: no sequence ever has two requests at a time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut server = runtime.block_on(Server::start(engine));
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 3_000,
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
        match runtime.block_on(replay::replay(&server, &sequence)) {
            Ok(sent) => {
                requests.fetch_add(sent, Ordering::Relaxed);
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
            let story = runtime.block_on(replay::replay(&server, &sequence)).err();
            Err(format!(
                "{engine:?} and the model disagree:\n{}",
                story.unwrap_or_else(|| format!("{reason}\n(the shortest sequence passed again)"))
            ))
        }
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    };
    runtime.block_on(server.stop());
    told
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

const DEFAULT_SEQUENCES: u64 = 300;
/// More than there are cores in CI, since a worker waits for the disk most of the time.
const WORKERS: u64 = 4;
