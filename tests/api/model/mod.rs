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

use std::collections::BTreeSet;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use uuid::Uuid;

use self::requests::{Request, Sequence};
use crate::{
    document,
    sequences::Comparison,
    support::{Engine, postgres_is_at_hand},
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
    compare(Engine::Sqlite);
}

#[test]
fn postgres_answers_as_the_model() {
    if postgres_is_at_hand() {
        compare(Engine::Postgres);
    }
}

fn compare(engine: Engine) {
    let comparison = Comparison {
        with: "the model",
        sequences: ("OKMSD_MODEL_SEQUENCES", DEFAULT_SEQUENCES),
        seed: "OKMSD_MODEL_SEED",
        make: random::sequence,
        replay: replay::replay,
        max_shrink_iters: 3_000,
        workers: 4,
    };
    let failures = comparison.run(engine);
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

const DEFAULT_SEQUENCES: u64 = 300;
