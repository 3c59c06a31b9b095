//! What a client may take of time, memory and connections.

use std::{num::NonZeroU32, path::Path, time::Duration};

use super::{
    Error,
    source::Source,
    value::{Value, whole_number},
};

/// What a client may take of time, memory and connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections may be open at once on each listener.
    pub connections: NonZeroU32,
    /// Of these, those of one IPv4 address or IPv6 /64.
    pub connections_per_address: OrNone,
    /// How many connections may be in their handshake.
    pub handshakes: NonZeroU32,
    /// Of these, those of one IPv4 address or IPv6 /64.
    pub handshakes_per_address: OrNone,
    /// How many handshakes of one IPv4 address or IPv6 /64 may begin in a second.
    pub handshake_rate_per_address: OrNone,
    /// HTTP/2 requests at a time on one connection.
    pub streams: NonZeroU32,
    /// HTTP/2 control frames in a second on one connection.
    pub control_frames_per_connection: OrNone,
    /// HTTP/2 requests without a body of one IPv4 address or IPv6 /64 that are worked on at a time, beside one on each
    /// connection.
    pub streams_per_address: OrNone,
    /// MiB that requests of one IPv4 address or IPv6 /64 may hold until their answers are sent.
    pub memory_mib_per_address: OrNone,
    /// Requests in a second of one IPv4 address or IPv6 /64.
    pub requests_per_address: OrNone,
    /// Requests in a second of one certificate or token.
    pub requests_per_credential: OrNone,
    /// Secrets of one domain.
    pub secrets_per_domain: OrNone,
    /// Requests that may wait for the database.
    pub database_queue: NonZeroU32,
    /// Audit records that may wait to be written.
    pub audit_queue: NonZeroU32,
    /// KiB of the head of a request.
    pub header_kib: NonZeroU32,
    /// KiB of the body of a request.
    pub body_kib: NonZeroU32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection without a request stays open.
    pub idle_timeout: Duration,
    /// How long open requests may take to end when the server stops.
    pub shutdown_timeout: Duration,
}

impl Limits {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        for (key, variable, slot) in [
            ("limits.connections", "OKMSD_CONNECTIONS", &mut self.connections),
            ("limits.handshakes", "OKMSD_HANDSHAKES", &mut self.handshakes),
            ("limits.streams", "OKMSD_STREAMS", &mut self.streams),
            ("limits.database_queue", "OKMSD_DATABASE_QUEUE", &mut self.database_queue),
            ("limits.audit_queue", "OKMSD_AUDIT_QUEUE", &mut self.audit_queue),
            ("limits.header_kib", "OKMSD_HEADER_KIB", &mut self.header_kib),
            ("limits.body_kib", "OKMSD_BODY_KIB", &mut self.body_kib),
        ] {
            let place = source.setting(key, variable, slot)?;
            let number = slot.get();
            match key {
                "limits.streams" => rule(place, number <= 1_000, "must be at most 1000")?,
                "limits.database_queue" => {
                    rule(place, number <= 65_536, "must be at most 65536")?;
                }
                "limits.audit_queue" => {
                    rule(place, number <= 1_048_576, "must be at most 1048576")?;
                }
                "limits.header_kib" => {
                    rule(place, (8..=256).contains(&number), "must be from 8 to 256")?;
                }
                "limits.body_kib" => {
                    rule(place, (4..=1_024).contains(&number), "must be from 4 to 1024")?;
                }
                _ => {}
            }
        }
        for (key, variable, slot) in [
            (
                "limits.connections_per_address",
                "OKMSD_CONNECTIONS_PER_ADDRESS",
                &mut self.connections_per_address,
            ),
            (
                "limits.handshakes_per_address",
                "OKMSD_HANDSHAKES_PER_ADDRESS",
                &mut self.handshakes_per_address,
            ),
            (
                "limits.handshake_rate_per_address",
                "OKMSD_HANDSHAKE_RATE_PER_ADDRESS",
                &mut self.handshake_rate_per_address,
            ),
            (
                "limits.control_frames_per_connection",
                "OKMSD_CONTROL_FRAMES_PER_CONNECTION",
                &mut self.control_frames_per_connection,
            ),
            (
                "limits.streams_per_address",
                "OKMSD_STREAMS_PER_ADDRESS",
                &mut self.streams_per_address,
            ),
            (
                "limits.memory_mib_per_address",
                "OKMSD_MEMORY_MIB_PER_ADDRESS",
                &mut self.memory_mib_per_address,
            ),
            (
                "limits.requests_per_address",
                "OKMSD_REQUESTS_PER_ADDRESS",
                &mut self.requests_per_address,
            ),
            (
                "limits.requests_per_credential",
                "OKMSD_REQUESTS_PER_CREDENTIAL",
                &mut self.requests_per_credential,
            ),
            ("limits.secrets_per_domain", "OKMSD_SECRETS_PER_DOMAIN", &mut self.secrets_per_domain),
        ] {
            let place = source.setting(key, variable, slot)?;
            if key == "limits.control_frames_per_connection" {
                let is_kept = slot.0 == 0 || slot.0 >= LEAST_CONTROL_FRAMES;
                rule(place, is_kept, "must be 0, or at least 100")?;
            }
        }
        for (key, variable, slot) in [
            ("limits.handshake_timeout", "OKMSD_HANDSHAKE_TIMEOUT", &mut self.handshake_timeout),
            ("limits.header_timeout", "OKMSD_HEADER_TIMEOUT", &mut self.header_timeout),
            ("limits.body_timeout", "OKMSD_BODY_TIMEOUT", &mut self.body_timeout),
            ("limits.idle_timeout", "OKMSD_IDLE_TIMEOUT", &mut self.idle_timeout),
            ("limits.shutdown_timeout", "OKMSD_SHUTDOWN_TIMEOUT", &mut self.shutdown_timeout),
        ] {
            let place = source.setting(key, variable, slot)?;
            match key {
                "limits.body_timeout" => {
                    rule(place, *slot <= LONGEST_BODY_TIMEOUT, "must be at most 50s")?;
                }
                "limits.idle_timeout" => {
                    rule(place, *slot >= SHORTEST_IDLE_TIMEOUT, "must be at least 65s")?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses a value that was given at `place`.
fn rule(place: Option<String>, is_kept: bool, rule: &'static str) -> Result<(), Error> {
    match place.filter(|_| !is_kept) {
        Some(place) => Err(Error::Rule { place, rule, flag: false }),
        None => Ok(()),
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: DEFAULT_CONNECTIONS,
            connections_per_address: OrNone(1_000),
            handshakes: DEFAULT_HANDSHAKES,
            handshakes_per_address: OrNone(250),
            handshake_rate_per_address: OrNone(100),
            streams: DEFAULT_STREAMS,
            control_frames_per_connection: OrNone(100),
            streams_per_address: OrNone(64),
            memory_mib_per_address: OrNone(64),
            requests_per_address: OrNone(20_000),
            requests_per_credential: OrNone(10_000),
            secrets_per_domain: OrNone(2_000_000),
            database_queue: DEFAULT_DATABASE_QUEUE,
            audit_queue: DEFAULT_AUDIT_QUEUE,
            header_kib: DEFAULT_HEADER_KIB,
            body_kib: DEFAULT_BODY_KIB,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// A request is answered within 60 s, and needs some of it when its body is there.
const LONGEST_BODY_TIMEOUT: Duration = Duration::from_secs(50);
/// A request is answered within 60 s; a connection must not be closed as idle before that.
const SHORTEST_IDLE_TIMEOUT: Duration = Duration::from_secs(65);
/// A connection begins with some ten, and waits for as many as one read has, which is a second then.
const LEAST_CONTROL_FRAMES: u32 = 100;
/// 10,000: each takes a file descriptor and, when busy, some hundred KiB.
const DEFAULT_CONNECTIONS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
/// 100: the least that RFC 9113 recommends.
const DEFAULT_STREAMS: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// 4,096: at some thousand a second, those behind would wait for seconds.
const DEFAULT_DATABASE_QUEUE: NonZeroU32 = NonZeroU32::new(4_096).unwrap();
/// 16,384: as many KiB, and what is written in some tenths of a second.
const DEFAULT_AUDIT_QUEUE: NonZeroU32 = NonZeroU32::new(16_384).unwrap();
/// 32 KiB: the longest path, percent-encoded, with tokens and browser cookies.
const DEFAULT_HEADER_KIB: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// 512 KiB: data of 64 KiB in which every character is escaped, with metadata and white space.
const DEFAULT_BODY_KIB: NonZeroU32 = NonZeroU32::new(512).unwrap();
/// 1,000: each takes some ten KiB, and a millisecond of CPU.
const DEFAULT_HANDSHAKES: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

/// A limit, where 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrNone(pub u32);

impl OrNone {
    /// The limit, where none is a number that nothing reaches.
    pub const fn or_max(self) -> u32 {
        if self.0 == 0 { u32::MAX } else { self.0 }
    }
}

impl Value for OrNone {
    const RULE: &'static str = "must be a whole number; 0 is no limit";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        whole_number(text).map(Self)
    }

    fn from_toml(value: &toml::Value, _base: &Path) -> Option<Self> {
        u32::try_from(value.as_integer()?).ok().map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}
