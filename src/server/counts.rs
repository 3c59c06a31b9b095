//! What became of connections and handshakes, counted for monitoring.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use rustls::{CertificateError, Error, HandshakeKind};

use super::places::Full;

/// The connections of a listener, since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: AtomicU64,
    full: AtomicU64,
    resumed: AtomicU64,
    waited: AtomicU64,
    waited_connections: AtomicU64,
    failed: [AtomicU64; REASONS.len()],
    refused: [AtomicU64; LIMITS.len()],
}

/// What became of the connections of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are open now, those in their handshake included.
    pub open: u64,
    /// Full handshakes since the start.
    pub full_handshakes: u64,
    /// Handshakes that resumed an earlier session.
    pub resumed_handshakes: u64,
    /// Handshakes that waited, as there were more of their address than its rate allows.
    pub waited_handshakes: u64,
    /// Connections that were left unread for a while, as more HTTP/2 control frames came than may.
    pub waited_connections: u64,
    /// Handshakes that failed, by the word for the reason.
    pub failed_handshakes: [(&'static str, u64); REASONS.len()],
    /// Connections that were closed, by the setting that left no place for them.
    pub refused: [(&'static str, u64); LIMITS.len()],
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The client did not go on in time.
    Timeout,
    /// Its address held more places than any other when another one needed a place.
    CrowdedOut,
    /// The connection ended.
    Closed,
    /// It is not TLS, or broken.
    Protocol,
    /// No version, cipher suite or the like in common.
    Incompatible,
    /// The client refused, the server's certificate mostly.
    RefusedByClient,
    /// A client certificate is required.
    NoCertificate,
    /// The client's certificate is not valid now.
    ExpiredCertificate,
    /// A list revokes it.
    RevokedCertificate,
    /// No authority that is known signed it.
    UnknownAuthority,
    /// Whatever else is wrong with it.
    BadCertificate,
    /// Anything else.
    Other,
}

impl Counts {
    /// A connection is open for as long as what this gives lives.
    pub(super) fn open(&self) -> Open<'_> {
        add(&self.open);
        Open(self)
    }

    pub(super) fn done(&self, kind: Option<HandshakeKind>) {
        add(if kind == Some(HandshakeKind::Resumed) { &self.resumed } else { &self.full });
    }

    pub(super) fn waits(&self) {
        add(&self.waited);
    }

    pub(super) fn connection_waits(&self) {
        add(&self.waited_connections);
    }

    pub(super) fn failed(&self, why: Failed) {
        if let Some(count) = self.failed.get(why as usize) {
            add(count);
        }
    }

    pub(super) fn refused(&self, full: Full) {
        let place = LIMITS.iter().position(|(known, _)| *known == full);
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            add(count);
        }
    }

    pub(super) fn read(&self) -> ConnectionCounts {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut failed_handshakes = REASONS.map(|(_, word)| (word, 0));
        for ((_, sum), count) in failed_handshakes.iter_mut().zip(&self.failed) {
            *sum = number(count);
        }
        let mut refused = LIMITS.map(|(_, setting)| (setting, 0));
        for ((_, sum), count) in refused.iter_mut().zip(&self.refused) {
            *sum = number(count);
        }
        ConnectionCounts {
            open: number(&self.open),
            full_handshakes: number(&self.full),
            resumed_handshakes: number(&self.resumed),
            waited_handshakes: number(&self.waited),
            waited_connections: number(&self.waited_connections),
            failed_handshakes,
            refused,
        }
    }
}

/// An open connection.
pub(super) struct Open<'a>(&'a Counts);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<&io::Error> for Failed {
    fn from(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            None => Self::Closed,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::ExpiredCertificate,
                CertificateError::Revoked => Self::RevokedCertificate,
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                _ => Self::BadCertificate,
            },
            Some(Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(
                Error::InvalidMessage(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::PeerMisbehaved(_)
                | Error::DecryptError
                | Error::PeerSentOversizedRecord,
            ) => Self::Protocol,
            Some(_) => Self::Other,
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The setting behind each limit.
const LIMITS: [(Full, &str); 5] = [
    (Full::Connections, "connections"),
    (Full::ConnectionsOfAddress, "connections_per_address"),
    (Full::Handshakes, "handshakes"),
    (Full::HandshakesOfAddress, "handshakes_per_address"),
    (Full::HandshakeRateOfAddress, "handshake_rate_per_address"),
];

/// The word for each reason.
const REASONS: [(Failed, &str); 12] = [
    (Failed::Timeout, "timeout"),
    (Failed::CrowdedOut, "crowded_out"),
    (Failed::Closed, "closed"),
    (Failed::Protocol, "protocol"),
    (Failed::Incompatible, "incompatible"),
    (Failed::RefusedByClient, "refused_by_client"),
    (Failed::NoCertificate, "no_certificate"),
    (Failed::ExpiredCertificate, "expired_certificate"),
    (Failed::RevokedCertificate, "revoked_certificate"),
    (Failed::UnknownAuthority, "unknown_authority"),
    (Failed::BadCertificate, "bad_certificate"),
    (Failed::Other, "other"),
];
