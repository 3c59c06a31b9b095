//! Tests of the API through the real router over real TLS with a real database.
//!
//! The folders mirror the URL tree. Every test of behaviour runs on SQLite and on PostgreSQL.

mod authentication;
mod browser;
mod codes;
mod document;
mod routes;
#[path = "../support/mod.rs"]
mod support;
mod swagger;
mod v2;
