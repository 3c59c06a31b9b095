//! Tests of the API through the real router over real TLS with a real database.
//!
//! The folders mirror the URL tree. Every test of behaviour runs on SQLite and on PostgreSQL.

mod at_rest;
mod audit;
mod authentication;
mod authorities;
mod backup;
mod browser;
mod codes;
mod concurrency;
mod document;
mod keys;
mod limits;
mod model;
mod openbao;
mod operations;
mod reload;
mod revocation;
mod rights;
mod routes;
mod schema;
mod sequences;
mod storage_failure;
#[path = "../support/mod.rs"]
mod support;
mod swagger;
mod tampering;
mod tls;
mod tokens;
#[path = "../support/tools.rs"]
mod tools;
mod transfer;
mod v1;
mod v2;
mod weak;
mod write_lock;
