//! Clients that others wrote, as they are, against the real program on both engines.
//!
//! Each suite takes its server from the environment, and so was proven against OpenBao first, where
//! what it tests is Vault's own. One server runs them one after the other: they change the
//! configuration of the domain.

mod document;
mod listeners;
mod manifests;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../tour/program.rs"]
mod program;
mod target;
mod toolbox;
#[path = "../support/tools.rs"]
mod tools;

use target::{Auth, Target};
use toolbox::Toolbox;

#[test]
fn every_client_works_on_sqlite() {
    let Some(toolbox) = Toolbox::open() else { return };
    run_all(toolbox, &Target::start(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_works_on_postgres() {
    let Some(toolbox) = Toolbox::open() else { return };
    if postgres::postgres_is_at_hand() {
        let schema = postgres::Schema::create().await;
        run_all(toolbox, &Target::start(Some(&schema.url())));
    }
}

#[track_caller]
fn run_all(toolbox: &Toolbox, target: &Target) {
    for auth in [Auth::Certificate, Auth::Token] {
        for mut command in toolbox.suites() {
            target.describe(&mut command, auth);
            let output = command.output().expect("the suite starts");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{command:?} with {auth:?}:\n{out}\n{err}");
        }
    }
}
