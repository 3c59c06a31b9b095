//! What benchmarks share: a real server in a process of its own, a load, comparisons and a report.
//!
//! | file | what it owns |
//! |---|---|
//! | `options` | how long and how often is measured |
//! | `load` | workers that ask: each after its answer, or all at a fixed rate |
//! | `http` | workers that ask over HTTP |
//! | `okmsd` | okmsd in a process of its own, and what is asked of it |
//! | `floor` | the same listener, TLS and HTTP in a process that answers always the same |
//! | `one_commit` | okmsd with a commit for each write |
//! | `process` | what a process takes of the machine |
//! | `compare` | measuring subjects in turns |
//! | `report` | the table and the JSON |

#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]

#[path = "../../support/client.rs"]
pub mod client;
pub mod compare;
pub mod floor;
#[path = "../../cli/harness.rs"]
pub mod harness;
pub mod http;
pub mod load;
pub mod okmsd;
pub mod one_commit;
pub mod options;
pub mod process;
#[path = "../../support/random.rs"]
pub mod random;
pub mod report;

use std::{env, path::PathBuf, process::ExitCode};

/// That of okmsd: what it is compared with in this program is to have no other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use self::{
    client::{Answer, Client, tls_config},
    options::Options,
    report::Report,
};

/// Runs a benchmark, or the server that it has started itself anew for. It does not fail on a slow machine.
pub fn main(name: &str, bench: impl AsyncFnOnce(&Options, &mut Report)) {
    run(name, bench);
}

/// As [`main`], for what has to be so on every machine: it fails where it is not.
pub fn prove(name: &str, bench: impl AsyncFnOnce(&Options, &mut Report)) -> ExitCode {
    match run(name, bench) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether all is as it is to be.
///
/// Each is a program with one name; what Cargo and a person add on the command line are words that the names
/// of the cases to run have in them, all of them where there is none.
fn run(name: &str, bench: impl AsyncFnOnce(&Options, &mut Report)) -> bool {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, folder] = &arguments[..] {
        match flag.as_str() {
            floor::FLAG => {
                floor::serve(&PathBuf::from(folder));
                return true;
            }
            one_commit::FLAG => {
                one_commit::serve(&PathBuf::from(folder));
                return true;
            }
            _ => {}
        }
    }
    let options = Options::new(&arguments);
    let mut report = Report::new(name, &options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(bench(&options, &mut report));
    report.finish()
}
