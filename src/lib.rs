//! okmsd: a regional Secret Manager server that speaks the OVHcloud OKMS Secret Manager API.
//!
//! Layers point one way; `tests/layers.rs` guards the arrows.
//!
//! | folder | what happens there |
//! |---|---|
//! | [`clock`] | the time of the system |
//! | [`domain`] | words and rules of the field; no I/O |
//! | [`pki`] | certificates: made, not stored |
//! | [`server`] | sockets: listeners, TLS, certificate to caller, limits, life cycle |

pub mod clock;
pub mod domain;
pub mod pki;
pub mod server;
