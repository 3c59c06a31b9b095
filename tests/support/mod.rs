//! What tests share: a real server over real TLS on a real database, a clock in the test's hand, and
//! a client that changes nothing about the requests it is told to send.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub mod attacks;
mod client;
mod foreign;
mod postgres;
mod proof;
mod proxy;
mod raw;
mod server;

pub use self::{
    client::{Answer, Client, tls_config},
    foreign::{Ca, Identity, uri},
    postgres::{Schema, base_url, postgres_is_at_hand},
    proxy::Proxy,
    raw::{RawConnection, send_raw},
    server::{Database, Domain, Engine, ManualClock, Server, audit_lines},
};

/// Makes each test a test of both engines.
///
/// `both_engines!(a, b)` runs `async fn a(server: Server)` and `async fn b(server: Server)` on SQLite
/// and on PostgreSQL. A test that is not listed is unused code, which clippy denies.
macro_rules! both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let server = crate::support::Server::start(crate::support::Engine::Sqlite).await;
                    super::$name(server).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if crate::support::postgres_is_at_hand() {
                        let server =
                            crate::support::Server::start(crate::support::Engine::Postgres).await;
                        super::$name(server).await;
                    }
                }
            )+
        }
    };
}

pub(crate) use both_engines;
