//! Reading what a handler left of a request's body.
//!
//! Many answers are known before the body was read: no certificate, a wrong method, a bad parameter.
//! Over HTTP/2, a body that is dropped unread makes the stream be reset right behind the answer, and
//! some clients (curl 7.88 among them) then lose the answer. So what is left of a body is read, within
//! bounds, before the answer goes out.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::header,
};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// A body that a handler reads, and that is still at hand when the handler is done.
#[derive(Clone)]
pub(super) struct KeptBody(Arc<Mutex<Body>>);

impl KeptBody {
    /// Keeps the body of a request. One that is known to be empty needs no keeping, nor does one that
    /// the client only sends when it is asked to: what the handler did not ask for never comes.
    pub(super) fn keep(request: &mut Request) -> Option<Self> {
        let is_held_back = request.headers().contains_key(header::EXPECT);
        let body = request.body_mut();
        if is_held_back || body.is_end_stream() {
            return None;
        }
        let kept = Self(Arc::new(Mutex::new(std::mem::take(body))));
        *body = Body::new(kept.clone());
        Some(kept)
    }

    /// Reads and drops what is left, up to a bound of bytes and of time.
    pub(super) async fn drain(mut self) {
        let read = async {
            let mut bytes = 0;
            while bytes <= MAX_DRAINED_BYTES {
                match self.frame().await {
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => break,
                }
            }
        };
        // Whoever is slower, or sends more, loses nothing but perhaps the answer.
        let _ = tokio::time::timeout(DRAIN_TIME, read).await;
    }

    fn with<T>(&self, work: impl FnOnce(Pin<&mut Body>) -> T) -> T {
        // A panic while polling ends that request; nothing here is left half done.
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(Pin::new(&mut body))
    }
}

impl HttpBody for KeptBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| body.poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

/// Far beyond what is accepted: whoever sends a file by mistake is told so. It is read and dropped piece
/// by piece, so it costs no memory, and the sender as much as us.
const MAX_DRAINED_BYTES: usize = 16 * 1024 * 1024;
/// An honest client has sent its body, or is about to.
const DRAIN_TIME: Duration = Duration::from_secs(2);
