//! Sockets: listeners, TLS, from a certificate to who calls, limits, life cycle.
//!
//! It ends TLS, turns the client's certificate into a
//! [`PeerCertificate`](crate::domain::PeerCertificate) and hands each request, with a
//! [`ConnectionInfo`](crate::domain::ConnectionInfo) among its extensions, to a service it knows
//! nothing about. What a caller may do is decided there, at each request; here it is only
//! established who that is. A certificate that is presented and can't be verified or read ends the
//! handshake: it never counts as none.
//!
//! Nobody can hold a connection without using it, see [`Limits`]. How long a request may take once
//! its head has arrived, body included, is for the service to limit.
//!
//! | file | what it owns |
//! |---|---|
//! | `limits` | every limit, with unit and reason |
//! | `tls` | the TLS settings of our listeners |
//! | `verifier` | which client certificates pass the handshake |
//! | `identity` | from a certificate to credential and domain |
//! | `listener` | the accept loop, from start to drained |
//! | `operations` | plain HTTP for monitoring, apart from the API |
//! | `connection` | one connection: handshake, HTTP, end |
//! | `activity` | what a connection is doing, and until when it may go on like that |
//! | `error` | what an operator is told |

mod activity;
mod connection;
mod error;
mod identity;
mod limits;
mod listener;
mod operations;
#[cfg(test)]
mod tests;
mod tls;
mod verifier;

pub use self::{
    error::Error,
    identity::peer_certificate,
    limits::Limits,
    listener::serve,
    operations::serve_operations,
    tls::{TlsMaterial, api_tls, docs_tls, server_certificate_end},
};
