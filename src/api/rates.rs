//! Requests beyond the rate of their caller, or while its earlier ones [hold too much](crate::domain::ClientMemory), refused before
//! anything of them is looked at.
//!
//! A caller is the network that its address is in, and the certificate of its connection or the token in its
//! headers. Nothing is known of a token yet, so whoever makes tokens up is limited by the address alone; a
//! certificate was verified in the handshake. Of a request with both, each is counted: also where a certificate asks for
//! a token, and what its client sends for one is not looked at. Which address that is would have to be read first;
//! clients that all send the same there share a rate.
//!
//! What is refused here did nothing and read nothing: it leaves no audit record and no line in the access log,
//! or a flood would fill the disk all the same. It is counted.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request},
    response::Response,
};
use futures_util::future::{BoxFuture, Either};
use hyper::body::Body as HttpBody;
use tower::Service;

use super::{ApiLimits, drain::KeptBody, envelope, error::ApiError, token};
use crate::{
    buckets::Buckets,
    domain::{Clock, ConnectionInfo, network},
};

/// The rates of all callers, and how many requests were beyond them.
pub struct Rates {
    clock: Arc<dyn Clock>,
    of_address: Rate,
    of_credential: Rate,
    /// Requests that came while those of their network held too much.
    unfinished: AtomicU64,
}

struct Rate {
    /// None where there is no limit.
    buckets: Option<Buckets>,
    refused: AtomicU64,
}

/// Of whom there are too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// Of the network that the caller's address is in.
    OfAddress,
    /// Of the certificate or the token.
    OfCredential,
    /// Of that network, for what they hold: answers that nobody reads, bodies that do not end.
    Unfinished,
}

impl Rates {
    /// The rates of `limits`, at the time of `clock`.
    pub fn new(limits: &ApiLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            of_address: Rate::new(limits.requests_per_address),
            of_credential: Rate::new(limits.requests_per_credential),
            unfinished: AtomicU64::new(0),
        })
    }

    /// How many requests were refused since the start, by the setting that they are beyond.
    pub fn refused(&self) -> [(&'static str, u64); 3] {
        [
            ("requests_per_address", self.of_address.refused.load(Ordering::Relaxed)),
            ("requests_per_credential", self.of_credential.refused.load(Ordering::Relaxed)),
            ("memory_mib_per_address", self.unfinished.load(Ordering::Relaxed)),
        ]
    }

    fn check(&self, connection: &ConnectionInfo, headers: &HeaderMap) -> Result<(), TooMany> {
        if connection.memory.is_full() {
            self.unfinished.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany::Unfinished);
        }
        let now = self.clock.now();
        self.of_address.check(TooMany::OfAddress, |buckets| {
            buckets.take(network(connection.peer_address.ip()), now)
        })?;
        self.of_credential.check(TooMany::OfCredential, |buckets| {
            let certificate = connection.peer.as_ref().map(|peer| peer.fingerprint());
            certificate.is_none_or(|certificate| buckets.take(certificate, now))
                && token::written(headers).all(|token| buckets.take(token, now))
        })
    }
}

impl Rate {
    fn new(limit: u32) -> Self {
        Self { buckets: Buckets::new(limit, ROW_LEN), refused: AtomicU64::new(0) }
    }

    fn check(&self, whose: TooMany, take: impl FnOnce(&Buckets) -> bool) -> Result<(), TooMany> {
        if self.buckets.as_ref().is_none_or(take) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(whose)
    }
}

/// A service that is reached by requests within the rates alone.
#[derive(Clone)]
pub struct Limited<S> {
    rates: Arc<Rates>,
    service: S,
}

impl<S> Limited<S> {
    pub(super) const fn new(rates: Arc<Rates>, service: S) -> Self {
        Self { rates, service }
    }
}

impl<S, B> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let connection = request.extensions().get::<ConnectionInfo>();
        // One without is refused by whoever asks for its caller.
        let check = connection.map(|connection| self.rates.check(connection, request.headers()));
        match check {
            None | Some(Ok(())) => Either::Left(self.service.call(request)),
            Some(Err(whose)) => Either::Right(Box::pin(refuse(whose, request.map(Body::new)))),
        }
    }
}

async fn refuse(whose: TooMany, mut request: Request<Body>) -> Result<Response, Infallible> {
    let left = KeptBody::keep(&mut request);
    drop(request);
    if let Some(left) = left {
        left.drain().await;
    }
    Ok(envelope::refusal(ApiError::TooManyRequests(whose)))
}

/// 16,384 callers in each of the four rows: 512 KiB in all.
const ROW_LEN: NonZeroUsize = NonZeroUsize::new(1 << 14).unwrap();
