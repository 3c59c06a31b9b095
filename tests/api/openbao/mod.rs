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
pub mod program;
mod random;
mod replay;
mod requests;

use std::thread;

use self::{
    differences::DIFFERENCES,
    program::{OpenBao, openbao},
    replay::Pair,
    requests::Request,
};
use crate::{
    sequences::{Caller, Comparison, start},
    support::{Engine, Server, postgres_is_at_hand},
};

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
    let comparison = Comparison {
        with: "OpenBao",
        sequences: ("OKMSD_OPENBAO_SEQUENCES", DEFAULT_SEQUENCES),
        seed: "OKMSD_OPENBAO_SEED",
        make: random::sequence,
        replay: async |server: &Server, (caller, sequence): &(Caller, Vec<Request>)| {
            let replayed = Pair::new(server, bao).replay(*caller, sequence).await?;
            Ok(replayed.requests)
        },
        max_shrink_iters: 500,
        workers: 3,
    };
    let failures = thread::scope(|scope| {
        let examples = scope.spawn(|| try_examples(engine, bao));
        let mut failures = comparison.run(engine);
        failures.extend(examples.join().expect("the examples"));
        failures
    });
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

/// Tries the example of each row of the table, and gives what fails. A row that does not occur in its example
/// says what is not so any more.
fn try_examples(engine: Engine, bao: &OpenBao) -> Vec<String> {
    let (runtime, mut server) = start(engine);
    let pair = Pair::new(&server, bao);
    let mut failures = Vec::new();
    for (difference, caller) in DIFFERENCES.iter().zip(Caller::ALL.into_iter().cycle()) {
        let example: Vec<_> = difference.example.iter().map(|line| Request::parse(line)).collect();
        match runtime.block_on(pair.replay(caller, &example)) {
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
    failures.extend(runtime.block_on(pair.replay(Caller::Certificate, &expiry)).err());
    runtime.block_on(server.stop());
    failures
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

/// A quarter of a minute: some of it is waiting for versions to end.
const DEFAULT_SEQUENCES: u64 = 30;
