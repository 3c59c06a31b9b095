//! The accept loop, from start to drained.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    Limits, ListenerTls,
    connection::Shared,
    places::{Place, Places},
};

/// Serves `service` on `listener` until `shutdown` completes and what is in flight then has ended,
/// or `limits.drain_time` has passed.
///
/// Each request carries a [`ConnectionInfo`](crate::domain::ConnectionInfo) among its extensions.
/// Nothing that a connection does, a panic included, ends the loop. When this returns, no connection
/// is open and no request is being worked on, unless one has blocked its thread for a second.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: ListenerTls,
    service: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let drain_time = limits.drain_time;
    let places = Places::new(&limits);
    let shared = Arc::new(Shared::new(tls, limits));
    let (drain, _) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);

    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => report(ended),
            (socket, peer_address, place) = next(&listener, &places, &shared) => {
                let (shared, service, drain) = (shared.clone(), service.clone(), drain.subscribe());
                tasks.spawn(async move {
                    shared.run(socket, peer_address, place, service, drain).await;
                });
            }
        }
    }

    drop(listener);
    info!(connections = tasks.len(), "listener closed, waiting for requests in flight");
    drain.send_replace(true);
    let drained = timeout(drain_time, async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        warn!(connections = tasks.len(), "requests still in flight are dropped");
    }
    tasks.shutdown().await;
    // HTTP/2 requests run in tasks of their own, which end when they notice that their connection
    // is gone. All places being free proves that the last one has.
    let _ = timeout(AFTERMATH, places.empty()).await;
}

/// The next connection that there is a place for. May be cancelled at any time.
///
/// One without a place is closed at once. In the queue of the operating system its client would wait without
/// knowing for what, and those of one address would stand before those of all others.
async fn next(
    listener: &TcpListener,
    places: &Arc<Places>,
    shared: &Shared,
) -> (TcpStream, SocketAddr, Place) {
    loop {
        match listener.accept().await {
            Ok((socket, peer_address)) => match places.take(peer_address.ip()) {
                Ok(place) => return (socket, peer_address, place),
                Err(full) => {
                    debug!(peer.address = %peer_address, ?full, "no place for a connection");
                    shared.counts().refused(full);
                }
            },
            Err(error) if is_of_connection(&error) => {
                debug!(%error, "connection gone before accept")
            }
            Err(error) => {
                // No file descriptor or no memory left. Without a pause it would fail again at once
                // and take the time of those who could free some.
                warn!(%error, "connections can't be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the error is that of one connection, and the next may well succeed.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

fn report(ended: Result<(), JoinError>) {
    // The panic's message has been written by the panic hook.
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a connection was ended by a panic");
    }
}

/// Between two attempts to accept after a failure of the system: ten log lines a second at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For requests to notice that their connection is gone.
const AFTERMATH: Duration = Duration::from_secs(1);
