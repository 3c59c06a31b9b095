//! okmsd: a regional Secret Manager server that speaks the OVHcloud OKMS Secret Manager API.
//!
//! Layers point one way; `tests/layers.rs` guards the arrows.
//!
//! | folder | what happens there |
//! |---|---|
//! | [`clock`] | the time of the system |
//! | [`domain`] | words and rules of the field; no I/O |
//! | [`pki`] | certificates: made, not stored |

pub mod clock;
pub mod domain;
pub mod pki;
