//! The operations listener: plain HTTP for monitoring, apart from the API.
//!
//! It knows no caller and reaches no secret. Where it listens is the operator's choice, loopback as a
//! rule; it has limits of its own, so that nobody keeps monitoring out by holding connections open.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{Limits, places::Places};

/// Serves `service` over plain HTTP/1.1 on `listener` for as long as this is polled. What is under way
/// when it is dropped is cut: nobody waits for a measurement of a server that ends.
pub async fn serve_operations<S, B>(listener: TcpListener, service: S)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Places::new(&Limits {
        max_connections: MAX_CONNECTIONS,
        max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
        ..Limits::default()
    });
    let mut connections = JoinSet::new();
    loop {
        // Those that have ended; nothing waits here.
        while connections.try_join_next().is_some() {}
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connections for operations can't be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once: a scraper comes again.
        let Ok(place) = places.take(peer.ip()) else { continue };
        let service = TowerToHyperService::new(service.clone());
        connections.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(socket), service);
            match timeout(CONNECTION_TIME, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!(%error, "a connection for operations ended early"),
            }
        });
    }
}

/// Scrapers and probes are few; each holds one connection.
const MAX_CONNECTIONS: u32 = 32;
/// Of these, those of one network, so that one machine cannot keep the others out.
const MAX_CONNECTIONS_PER_ADDRESS: u32 = 16;
/// For the head of a request to arrive, also the longest pause between two requests: a place that is not used is
/// soon free. Longer than 15 seconds, an interval of many scrapers; who asks less often connects again, which costs
/// next to nothing here.
const HEADER_TIME: Duration = Duration::from_secs(20);
/// How long one connection may last, whatever happens on it; scrapers connect again.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// hyper's least.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Between two attempts to accept after a failure of the system.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
