//! What a client may take of time and connections.

use std::{num::NonZeroU32, time::Duration};

use super::{Error, source::Source};

/// What a client may take of time and connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections may be open at once on each listener.
    pub connections: NonZeroU32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection without a request stays open.
    pub idle_timeout: Duration,
    /// How long open requests may take to end when the server stops.
    pub shutdown_timeout: Duration,
}

impl Limits {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("limits.connections", "OKMSD_CONNECTIONS", &mut self.connections)?;
        let mut idle = None;
        for (key, variable, slot) in [
            ("limits.handshake_timeout", "OKMSD_HANDSHAKE_TIMEOUT", &mut self.handshake_timeout),
            ("limits.header_timeout", "OKMSD_HEADER_TIMEOUT", &mut self.header_timeout),
            ("limits.idle_timeout", "OKMSD_IDLE_TIMEOUT", &mut self.idle_timeout),
            ("limits.shutdown_timeout", "OKMSD_SHUTDOWN_TIMEOUT", &mut self.shutdown_timeout),
        ] {
            let place = source.setting(key, variable, slot)?;
            if key == "limits.idle_timeout" {
                idle = place;
            }
        }
        if let Some(place) = idle.filter(|_| self.idle_timeout < SHORTEST_IDLE_TIMEOUT) {
            return Err(Error::Rule { place, rule: "must be at least 65s", flag: false });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: DEFAULT_CONNECTIONS,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// A request is answered within 60 s; a connection must not be closed as idle before that.
const SHORTEST_IDLE_TIMEOUT: Duration = Duration::from_secs(65);
/// 10,000: each takes a file descriptor and, when busy, some hundred KiB.
const DEFAULT_CONNECTIONS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
