//! A client's certificate on one connection, asked for again at each request.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{CertificateError, pki_types::CertificateDer};

use super::{live::LiveTls, trust::sha256};
use crate::domain::{Peer, PeerCertificate, Timestamp};

/// The client of a connection that presented a certificate.
#[derive(Debug)]
pub(super) struct ConnectedPeer {
    chain: Vec<CertificateDer<'static>>,
    /// Asked for at every request, so it is found out once.
    fingerprint: [u8; 32],
    live: Arc<LiveTls>,
    verdict: Mutex<Option<Verdict>>,
}

/// What was found out about the chain, and for how long it holds: verification depends on nothing but
/// the trust set and on which side of the boundaries the time is.
#[derive(Debug, Clone)]
struct Verdict {
    epoch: u64,
    from: Timestamp,
    until: Timestamp,
    found: Result<Arc<PeerCertificate>, &'static str>,
}

impl ConnectedPeer {
    /// A client that presented `chain` and proved to hold the key of its first certificate.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>, live: Arc<LiveTls>) -> Self {
        let fingerprint = chain.first().map(|certificate| sha256(certificate)).unwrap_or_default();
        Self { chain, fingerprint, live, verdict: Mutex::new(None) }
    }
}

impl Peer for ConnectedPeer {
    fn certificate(&self, now: Timestamp) -> Result<Arc<PeerCertificate>, &'static str> {
        // A verdict is replaced as a whole, so a panic elsewhere leaves nothing half done.
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = &*verdict
            && verdict.epoch == self.live.epoch()
            && verdict.from <= now
            && now < verdict.until
        {
            return verdict.found.clone();
        }
        let (epoch, trust) = self.live.trust();
        let found = trust.verify(&self.chain, now).map(Arc::new).map_err(|error| reason(&error));
        let until = trust.next_boundary(&self.chain, now);
        *verdict = Some(Verdict { epoch, from: now, until, found: found.clone() });
        found
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

fn reason(error: &rustls::Error) -> &'static str {
    use CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            E::Revoked => "the certificate or an authority of it is revoked by a list",
            E::Expired | E::ExpiredContext { .. } => {
                "the certificate or an authority of it has expired"
            }
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "the certificate or an authority of it is not valid yet"
            }
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
                "the revocation list of its authority is stale"
            }
            E::UnknownRevocationStatus => "there is no revocation list of its authority",
            E::UnknownIssuer | E::BadSignature => {
                "no authority vouches for the certificate any more"
            }
            _ => "the certificate does not count any more",
        },
        _ => "the certificate can't be verified",
    }
}
