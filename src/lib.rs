//! okmsd: a regional Secret Manager server that speaks the OVHcloud OKMS Secret Manager API.
//!
//! A request comes in at the top of this table and works its way down. Layers point one way only:
//! `tests/layers.rs` guards the arrows.
//!
//! | folder | what happens there |
//! |---|---|
//! | [`cli`] | the command line: one file for each subcommand |
//! | [`config`] | settings: file, environment, flags |
//! | [`server`] | sockets, TLS, the caller's certificate, limits, life cycle |
//! | [`api`] | HTTP only: input in, one call of a use case, answer out |
//! | [`service`] | the use cases: authorize → seal → store → open |
//! | [`domain`] | words and rules of the field; no I/O |
//! | [`iam`] | rights: policies, groups, decisions; no I/O |
//! | [`crypto`] | envelope encryption: root key → store key → domain key → data |
//! | [`store`] | all SQL, for SQLite and PostgreSQL; sees ciphertext only |
//! | [`audit`] | the record of all that was asked and done, chained and signed |
//! | [`pki`] | certificates: made, not stored |
//! | [`app`] | joins the parts into a running server |
//! | [`buckets`] | rates of many callers |
//! | [`clock`] | the time of the system |
//! | [`measure`] | what happens often, counted |
//! | [`telemetry`] | logs and measurements |

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::todo, clippy::dbg_macro)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::allow_attributes)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod app;
pub mod audit;
pub mod buckets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod iam;
pub mod measure;
pub mod pki;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
