//! Certificates: an authority, what it issues, and PKCS#12 files for browsers.
//!
//! Everything here happens in memory. Nothing is read from or written to disk, and there is no
//! clock: "now" is a parameter. Keys come from aws-lc-rs and are wiped when dropped, as far as the
//! libraries below let us. The reading side, from a client's certificate to its identity, is
//! `server::identity`; the two share no code, so that each one's tests check the other.
//!
//! | file | what it owns |
//! |---|---|
//! | `authority` | a CA: made, loaded, checked, and its server certificates |
//! | `access` | access certificates, in the form that the okms CLI reads |
//! | `foreign` | certificates that other authorities made |
//! | `csr` | certificate signing requests: proof of possession and the public key, nothing else |
//! | `pkcs12` | key, certificate and CA in one file that a browser imports |
//! | `key` | private keys that are wiped |
//! | `pem` | PEM text that leaves no copies |
//! | `validity` | from [`Timestamp`](crate::domain::Timestamp) to the times in a certificate |
//! | `error` | what an operator is told |

mod access;
mod authority;
mod csr;
mod error;
mod foreign;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod key;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;
mod validity;

pub use self::{
    access::{AccessCertificate, AccessKey, IssuedAccess},
    authority::{Authority, Issued},
    error::Error,
    foreign::ForeignCertificate,
    pkcs12::pkcs12,
};
