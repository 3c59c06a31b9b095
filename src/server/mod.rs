//! Sockets: listeners, TLS, from a certificate to who calls, limits, life cycle.
//!
//! It ends TLS, keeps the client's certificate as a [`Peer`](crate::domain::Peer) and hands each
//! request, with a [`ConnectionInfo`](crate::domain::ConnectionInfo) among its extensions, to a service
//! it knows nothing about. The service asks the peer, at each request, whether an authority still
//! vouches for that certificate and what it says; what a caller may do is decided there. A certificate
//! that is presented and can't be verified or read ends the handshake: it never counts as none.
//!
//! Nobody can hold a connection without using it, see [`Limits`]. How long a request may take once
//! its head has arrived, body included, is for the service to limit.
//!
//! | file | what it owns |
//! |---|---|
//! | `limits` | every limit, with unit and reason |
//! | `material` | what the TLS of the listeners is made of |
//! | `live` | the TLS settings in use, replaced as a whole while the server runs |
//! | `tls` | the TLS settings of our listeners |
//! | `trust` | which client certificates count: chain, revocation, identity |
//! | `authorities` | the authorities whose certificates count, as the files give them |
//! | `revocation` | lists of revoked certificates |
//! | `verifier` | which client certificates pass the handshake |
//! | `identity` | from a certificate of our own authority to credential and domain |
//! | `external` | from the certificate of another authority to the identities in it |
//! | `peer` | a client's certificate on one connection, asked for again at each request |
//! | `status` | when certificates and lists end, and the warnings of it |
//! | `listener` | the accept loop, from start to drained |
//! | `operations` | plain HTTP for monitoring, apart from the API |
//! | `handshakes` | turns of handshakes, and the rate of those of one client |
//! | `connection` | one connection: handshake, HTTP, end |
//! | `places` | how many connections there may be, in all and of one client |
//! | `counts` | what became of connections and handshakes |
//! | `activity` | what a connection is doing, and until when it may go on like that |
//! | `frames` | HTTP/2 frames that bring no data, and how many there may be |
//! | `error` | what an operator is told |

mod activity;
mod authorities;
mod connection;
mod counts;
mod error;
mod external;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshakes;
mod identity;
mod limits;
mod listener;
mod live;
mod material;
mod operations;
mod peer;
mod places;
mod revocation;
mod status;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod verifier;

pub use self::{
    counts::ConnectionCounts,
    error::Error,
    identity::peer_certificate,
    limits::Limits,
    listener::serve,
    live::{ListenerTls, LiveTls, api_tls, check_client_certificate},
    material::{ExternalAuthority, RevocationList, TlsMaterial},
    operations::serve_operations,
    status::{
        CertificateExpiry, CertificateKind, CertificateStatus, ExpiryWarnings,
        check_server_certificate,
    },
};
