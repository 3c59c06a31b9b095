//! Tests of the program itself: the binary is run, its files are read, its server is asked.

#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/client.rs"]
mod client;
mod crash;
mod credential;
mod dev;
mod domain;
mod full_disk;
mod harness;
mod key;
mod logs;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod production;
mod replicas;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/tools.rs"]
mod tools;
mod usage;
