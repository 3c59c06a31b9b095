//! How long and how often is measured.

use std::{env, time::Duration};

/// What a person can say, in the environment and on the command line.
pub struct Options {
    /// Whether this run shall only prove that the benchmark works. `OKMSD_BENCH_QUICK`.
    pub quick: bool,
    /// How often each subject is measured, in turns. `OKMSD_BENCH_ROUNDS`.
    pub rounds: usize,
    /// How long each time. `OKMSD_BENCH_SECONDS`.
    pub time: Duration,
    /// For how long a subject is asked before it is measured.
    pub warm_up: Duration,
    words: Vec<String>,
}

impl Options {
    pub fn new(arguments: &[String]) -> Self {
        let quick = number("OKMSD_BENCH_QUICK").is_some_and(|quick| quick != 0);
        let rounds = number("OKMSD_BENCH_ROUNDS").unwrap_or(if quick { 1 } else { 5 });
        let seconds = number("OKMSD_BENCH_SECONDS").unwrap_or(if quick { 1 } else { 5 });
        assert!(rounds > 0 && seconds > 0, "a benchmark takes a round and a second at least");
        let words = arguments.iter().filter(|word| !word.starts_with('-')).cloned().collect();
        Self {
            quick,
            rounds: usize::try_from(rounds).expect("a small number"),
            time: Duration::from_secs(seconds),
            warm_up: Duration::from_millis(if quick { 200 } else { 1_000 }),
            words,
        }
    }

    /// What is measured, or less of it in a run that only proves that it works.
    pub fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether the case of that name shall run.
    pub fn wants(&self, case: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| case.contains(word.as_str()))
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}
