//! One connection: handshake, HTTP, end.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;
use tracing::debug;

use crate::domain::{ConnectionInfo, Peer};

use super::{
    Limits,
    activity::{Activity, FAR, Overdue, Watched, WatchedBody},
    counts::{Counts, Failed},
    handshakes::{self, Pace},
    live::ListenerTls,
    peer::ConnectedPeer,
    places::{Full, Place},
};

/// What all connections of a listener have in common.
pub(super) struct Shared {
    tls: ListenerTls,
    limits: Limits,
    pace: Pace,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl Shared {
    pub(super) fn new(tls: ListenerTls, limits: Limits) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let max_header_bytes = limits.max_header_bytes;
        builder
            .http1()
            .timer(TokioTimer::new())
            // hyper counts from the end of the last request, so that a short time would cut idle
            // connections. The watch counts from the first byte; this one is behind it.
            .header_read_timeout(limits.idle_time.min(FAR))
            .max_buf_size((max_header_bytes as usize).max(MIN_HTTP1_BUFFER));
        // The limits against resets and heads without end are h2's own; for other floods see `frames`.
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(max_header_bytes)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_send_buf_size(HTTP2_SEND_BUFFER);
        let pace = Pace::new(limits.handshake_rate_per_address);
        let (http1, http2) = (builder.clone().http1_only(), builder.http2_only());
        Self { tls, limits, pace, http1, http2 }
    }

    /// Where the connections are counted.
    pub(super) fn counts(&self) -> &Counts {
        self.tls.counts()
    }

    /// Serves one connection until its end. Everything that goes wrong with it ends here.
    pub(super) async fn run<S, B>(
        &self,
        socket: TcpStream,
        peer_address: SocketAddr,
        mut place: Place,
        service: S,
        mut drain: watch::Receiver<bool>,
    ) where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let _open = self.tls.counts().open();
        // Small answers must not wait for more to come.
        let _ = socket.set_nodelay(true);
        if let Err(full) = place.begin_handshake() {
            debug!(peer.address = %peer_address, ?full, "no place for a handshake");
            self.tls.counts().refused(full);
            return;
        }
        let tls = tokio::select! {
            tls = self.handshake_in_turn(socket, peer_address) => tls,
            () = place.given_up() => {
                self.tls.counts().failed(Failed::CrowdedOut);
                debug!(peer.address = %peer_address, "TLS handshake gave way to another address");
                None
            }
            // Nothing is in flight yet.
            _ = drain.wait_for(|drain| *drain) => None,
        };
        let Some(tls) = tls else { return };
        place.handshake_done();
        let (info, http2) = self.connection_info(&tls, peer_address, &place);

        let activity = Activity::new(&self.limits, !http2, place);
        let service = PerConnection { service, info, activity: activity.clone() };
        let socket = TokioIo::new(Watched::new(tls, activity.clone()));
        let builder = if http2 { &self.http2 } else { &self.http1 };
        let mut connection = pin!(builder.serve_connection(socket, service));
        let mut drain = pin!(drain.wait_for(|drain| *drain));
        let mut timer = pin!(sleep_until(activity.deadline()));
        let (mut closing, mut has_waited) = (false, false);

        let end = poll_fn(|cx| {
            activity.turn();
            if !closing && drain.as_mut().poll(cx).is_ready() {
                closing = true;
                activity.closing();
                connection.as_mut().graceful_shutdown();
            }
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    return Poll::Ready(result.err().map(|error| error.to_string()));
                }
                if !has_waited && activity.has_waited() {
                    has_waited = true;
                    self.tls.counts().connection_waits();
                    debug!(peer.address = %peer_address, "connection waits: too many control frames came on it");
                }
                // The deadline moves with each byte. The timer is moved only when it would be late,
                // and looks again when it is early.
                let deadline = activity.deadline();
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                match activity.overdue() {
                    None => timer.as_mut().reset(activity.deadline()),
                    Some(Overdue::Close) => {
                        closing = true;
                        activity.closing();
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(activity.deadline());
                    }
                    Some(Overdue::Cut) => {
                        let reason = "nothing moved for too long, or too much was left unread";
                        return Poll::Ready(Some(reason.to_owned()));
                    }
                }
            }
        })
        .await;
        if let Some(reason) = end {
            debug!(peer.address = %peer_address, error = reason, "connection ended early");
        }
    }

    /// Makes the handshake as soon as the rate of its address lets it begin.
    async fn handshake_in_turn(
        &self,
        socket: TcpStream,
        peer_address: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let Some(wait) = self.pace.wait(peer_address.ip(), self.limits.handshake_time) else {
            self.tls.counts().refused(Full::HandshakeRateOfAddress);
            debug!(peer.address = %peer_address, "TLS handshake refused: its address makes too many");
            return None;
        };
        if !wait.is_zero() {
            self.tls.counts().waits();
            debug!(peer.address = %peer_address, ?wait, "TLS handshake waits: its address makes many");
            sleep(wait).await;
        }
        self.handshake(socket, peer_address).await
    }

    async fn handshake(
        &self,
        socket: TcpStream,
        peer_address: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.tls.current());
        let handshake = handshakes::in_turn(acceptor.accept(socket).into_fallible());
        match timeout(self.limits.handshake_time, handshake).await {
            Ok(Ok(tls)) => {
                self.tls.counts().done(tls.get_ref().1.handshake_kind());
                Some(tls)
            }
            Ok(Err((error, socket))) => {
                self.tls.counts().failed(Failed::from(&error));
                debug!(peer.address = %peer_address, %error, "TLS handshake failed");
                linger(socket).await;
                None
            }
            Err(_) => {
                self.tls.counts().failed(Failed::Timeout);
                debug!(peer.address = %peer_address, "TLS handshake took too long");
                None
            }
        }
    }

    /// What is known of the client after the handshake, and whether it speaks HTTP/2.
    fn connection_info(
        &self,
        tls: &TlsStream<TcpStream>,
        peer_address: SocketAddr,
        place: &Place,
    ) -> (ConnectionInfo, bool) {
        let (_, session) = tls.get_ref();
        // A resumed session brings its certificates along but does not ask the verifier. Whether they
        // count is asked at each request.
        let peer = session.peer_certificates().map(|chain| {
            let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
            let peer: Arc<dyn Peer> = Arc::new(ConnectedPeer::new(chain, self.tls.live().clone()));
            peer
        });
        // RFC 9113: over TLS, HTTP/2 is negotiated or not spoken.
        let http2 = session.alpn_protocol() == Some(b"h2");
        let memory = Arc::clone(place.memory());
        (ConnectionInfo { peer_address, peer, memory }, http2)
    }
}

/// Lets the client read why the handshake failed. If we closed with its first request unread, the
/// operating system would reset the connection, and some clients would report only that.
async fn linger(mut socket: TcpStream) {
    let farewell = async {
        socket.shutdown().await?;
        let mut rest = socket.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER_TIME, farewell).await;
}

/// The service, as one connection sees it: each request carries who is at the other end, and is in
/// flight until its response is sent.
struct PerConnection<S> {
    service: S,
    info: ConnectionInfo,
    activity: Arc<Activity>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for PerConnection<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin(request.headers().len());
        request.extensions_mut().insert(self.info.clone());
        // One that waits for its body must not hold up others. Nobody waits for that of a GET, which may have one.
        let is_whole = request.body().is_end_stream() || request.method().is_safe();
        let response = self.service.clone().oneshot(request);
        Box::pin(async move {
            let turn = if is_whole { in_flight.turn().await } else { None };
            let response = response.await;
            drop(turn);
            response.map(|response| response.map(|body| WatchedBody::new(body, in_flight)))
        })
    }
}

/// Less, and hyper panics.
const MIN_HTTP1_BUFFER: usize = 8 * 1024;

/// Bytes of one request's body that may wait unread: a whole one, mostly. hyper's own 1 MiB is what
/// each of a hundred streams could leave in our memory.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of bodies that may wait unread on one connection, and are not counted: no more than those of one stream.
const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAM_WINDOW;

/// Bytes of one response that may wait for the client to read. hyper's own is 400 KiB.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// After a failed handshake; enough for an answer to cross the world.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Bytes that a client may have sent before it read of the failure.
const LINGER_BYTES: u64 = 64 * 1024;
