//! Every limit of requests.

use std::time::Duration;

/// The limits of requests. Those of connections are the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// Requests in a second of one [network](crate::domain::network), as many of which may come at once; 0 is no
    /// limit. A read costs some ten microseconds of CPU, a write some hundred: this leaves most of a machine to
    /// others, and is more than one client needs that waits for its answers. Behind a balancer all clients have its
    /// address. Default: 20,000.
    pub requests_per_address: u32,
    /// The same of one certificate, or one token. Default: 10,000.
    pub requests_per_credential: u32,
    /// KiB of a body. Data may have 64 KiB as compact JSON; with every character escaped it has six times
    /// that, and metadata and white space need room beside it. Default: 512.
    pub body_kib: u32,
    /// How long a body may take to arrive. A body of the largest size over a slow line needs a few seconds;
    /// nobody holds a request open longer than this. Less than the 60 s in which a request is answered. Default: 20 s.
    pub body_time: Duration,
    /// Secrets of one domain; 0 is no limit. Whoever may make secrets could fill the disk of all others. Versions
    /// of a secret are limited by its settings. Default: 2,000,000, twice of what is measured.
    pub secrets_per_domain: u32,
    /// Requests that may wait for the database: on SQLite those that write, on PostgreSQL all. Each holds what it has
    /// read of its request, mostly a few KiB, and at some thousand a second those behind would wait for seconds. One
    /// more gets 503 at once. Default: 4,096; 65,536 at the most.
    pub database_queue: u32,
}

impl ApiLimits {
    /// Bytes of a body.
    pub(super) fn body_bytes(self) -> usize {
        (self.body_kib as usize).saturating_mul(1_024)
    }
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            requests_per_address: 20_000,
            requests_per_credential: 10_000,
            body_kib: 512,
            body_time: Duration::from_secs(20),
            secrets_per_domain: 2_000_000,
            database_queue: 4_096,
        }
    }
}
