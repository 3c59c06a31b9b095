//! Proof by crash and fault: the binary is killed, its disk fails, its clock jumps.
//!
//! Apart from the other tests of the binary, since these take minutes and fill the machine.

mod audit_trail;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/client.rs"]
mod client;
mod clock;
mod cluster;
mod disk;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../cli/harness.rs"]
mod harness;
mod history;
mod kill;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/random.rs"]
mod random;
mod site;
mod storage;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/tools.rs"]
mod tools;
mod writers;
