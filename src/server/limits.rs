//! Every limit of a listener.

use std::time::Duration;

/// The limits of a listener. Each one ends an attack that costs the attacker nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time; one more is closed at once. One takes a file descriptor and, when busy,
    /// some hundred KiB. Default: 10,000.
    pub max_connections: u32,
    /// Of these, those of one [network](crate::domain::network), so that one client cannot take all places.
    /// `u32::MAX` is no limit of its own. Default: 1,000.
    pub max_connections_per_address: u32,
    /// Connections whose handshake is not done: some ten KiB each, and a millisecond of CPU, for somebody of
    /// whom nothing is known. For one more, the network that has most of them gives one up. Default: 1,000.
    pub max_handshakes: u32,
    /// Of these, those of one network. Without it, the limit of all would be a weapon: whoever holds that many
    /// slow handshakes would keep all others out. Default: 250.
    pub max_handshakes_per_address: u32,
    /// Handshakes of one network that begin in a second, as many of which may begin at once; more wait in their place
    /// among the handshakes, for as long as one may take, or are closed where that is not enough. 0 is no limit. So
    /// many take a twentieth of one core, which requests of others hardly notice. Default: 100.
    pub handshake_rate_per_address: u32,
    /// From its turn (see the rate) to a finished TLS handshake, and how long it may wait for that turn. Generous for
    /// a bad mobile line, short for someone who opens connections and says nothing. Default: 10 s.
    pub handshake_time: Duration,
    /// For the head of a request to arrive: on HTTP/1.1 from its first byte, on either version from
    /// the handshake to the first head. However the bytes trickle. Default: 10 s.
    pub header_time: Duration,
    /// For a connection on which no byte moves in either direction (a reader who does not read, a
    /// dead peer), and for one without any request in flight (keep-alive, HTTP/2 pings, a head that
    /// never ends). More than the 60 s for which common clients and proxies keep connections, so
    /// that they close first and no request meets a closing connection. A request that is silent
    /// for longer is cut, so time limits of the service must be shorter. Default: 75 s.
    pub idle_time: Duration,
    /// From the request to shut down until requests in flight are dropped. Must be less than what
    /// the supervisor waits before it kills (systemd 90 s, Kubernetes 30 s; Docker's 10 s is to be
    /// raised, or this lowered). Default: 10 s.
    pub drain_time: Duration,
    /// Bytes of a request's head: start line and headers on HTTP/1.1 (there at least 8 KiB, which
    /// is also the size of the read buffer), the header list on HTTP/2. Room for the longest path,
    /// percent-encoded, with tokens and browser cookies. Default: 32 KiB.
    pub max_header_bytes: u32,
    /// HTTP/2 requests of one network that are worked on at a time, beside one on each of its connections and those
    /// that bring a body; more wait, for a second at the most. `u32::MAX` is no limit. A hundred on each of ten
    /// connections would otherwise all be done before those of others that come a moment later. As many as `cargo
    /// bench --bench read -- HTTP/2` has: with half of it, a tenth fewer were done there. Default: 64.
    pub max_streams_per_address: u32,
    /// Bytes that the requests of one network may hold: bodies that are on their way in, answers that are on their
    /// way out, and some 8 KiB for each request until its answer is sent. Beyond it the service refuses those that come,
    /// and a connection on which more come, or are answered, at twice as much is cut. `usize::MAX` is no limit. Without it, whoever
    /// reads nothing of what they ask for could have the server keep some GiB. Room for eight thousand small requests
    /// at a time, or for a thousand of the largest secrets. Default: 64 MiB.
    pub max_memory_per_address: usize,
    /// HTTP/2 requests at a time on one connection. 100 is the least that RFC 9113 recommends.
    /// Default: 100.
    pub max_concurrent_streams: u32,
    /// HTTP/2 control frames (here all that bring no data) that come on one connection in a second, as many of
    /// which may come at once; beside them, six for each request and one for each KiB that is sent. Where more
    /// come, nothing is read of the connection until there may be more. 0 is no limit. Clients send a ping in some
    /// seconds; four connections that sent nothing but settings took a fifth of a core. Default: 100.
    pub control_frames_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            max_handshakes: 1_000,
            max_handshakes_per_address: 250,
            handshake_rate_per_address: 100,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            drain_time: Duration::from_secs(10),
            max_header_bytes: 32 * 1024,
            max_concurrent_streams: 100,
            control_frames_per_connection: 100,
            max_streams_per_address: 64,
            max_memory_per_address: 64 * 1024 * 1024,
        }
    }
}
