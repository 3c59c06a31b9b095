//! Tests of the program itself: the binary is run, its files are read, its server is asked.

mod acts;
mod alone;
#[path = "../support/attacks.rs"]
mod attacks;
mod audit;
mod backup;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/client.rs"]
mod client;
mod crash;
mod credential;
mod dev;
mod domain;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/foreign.rs"]
mod foreign;
mod full_disk;
mod harness;
mod hostile;
mod key;
mod limits;
mod logs;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod policy;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod production;
mod reload;
mod replicas;
mod terminal;
mod token;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/tools.rs"]
mod tools;
mod upgrade;
mod usage;
