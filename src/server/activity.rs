//! What a connection is doing, and until when it may go on like that.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    sync::SemaphorePermit,
    task::yield_now,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    Limits,
    frames::{Allowance, Frames},
    places::Place,
};
use crate::domain::Held;

/// The activity of one connection. Shared by its socket, its requests and its watch.
///
/// Holds the connection's place among the open ones: it is free again when connection and requests
/// are all gone.
pub(super) struct Activity {
    state: Mutex<State>,
    header_time: Duration,
    idle_time: Duration,
    http1: bool,
    /// What the connection's task may still do in this turn, in bytes that it reads.
    left: AtomicUsize,
    /// Whether nothing was read for a while, as too many control frames had come.
    has_waited: AtomicBool,
    place: Place,
}

struct State {
    /// Requests whose response, body included, is not yet handed to the protocol.
    in_flight: usize,
    any_request: bool,
    /// Since when no request is in flight.
    quiet_since: Instant,
    /// When, with no request in flight, the first bytes came that may become one.
    head_since: Option<Instant>,
    /// When bytes last moved in either direction.
    moved: Instant,
    closing_since: Option<Instant>,
    /// Requests go on to come, though those of its network hold too much.
    overdrawn: bool,
    /// The control frames that may come; none where there is no limit.
    control_frames: Option<Allowance>,
}

/// What is to be done with a connection whose deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It is idle, and its client may be about to use it: take leave in the way of the protocol.
    Close,
    /// It is stuck, never asked for anything, or did not take the leave.
    Cut,
}

impl Activity {
    /// The activity of a connection whose handshake has just ended.
    pub(super) fn new(limits: &Limits, http1: bool, place: Place) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            state: Mutex::new(State {
                in_flight: 0,
                any_request: false,
                quiet_since: now,
                head_since: None,
                moved: now,
                closing_since: None,
                overdrawn: false,
                control_frames: match http1 {
                    true => None,
                    false => Allowance::new(limits.control_frames_per_connection, now),
                },
            }),
            header_time: limits.header_time,
            idle_time: limits.idle_time,
            http1,
            left: AtomicUsize::new(0),
            has_waited: AtomicBool::new(false),
            place,
        })
    }

    /// Until when the connection may go on as it does.
    pub(super) fn deadline(&self) -> Instant {
        let state = self.state();
        if state.overdrawn {
            return state.moved;
        }
        let silent = later(state.moved, self.idle_time);
        if state.in_flight > 0 {
            return silent;
        }
        if let Some(closing) = state.closing_since {
            return later(closing.max(state.quiet_since), LEAVE_TIME).min(silent);
        }
        let allowed = if state.any_request { self.idle_time } else { self.header_time };
        let quiet = later(state.quiet_since, allowed);
        // On HTTP/2 bytes outside of requests may be anything, such as a ping.
        let head = state.head_since.filter(|_| self.http1);
        head.map_or(quiet, |since| quiet.min(later(since, self.header_time))).min(silent)
    }

    /// Says what to do if the deadline has passed.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        if self.deadline() > Instant::now() {
            return None;
        }
        let state = self.state();
        let mid_head = self.http1 && state.head_since.is_some();
        let idle = state.in_flight == 0 && state.any_request && !mid_head && !state.overdrawn;
        Some(if idle && state.closing_since.is_none() { Overdue::Close } else { Overdue::Cut })
    }

    /// No further requests are taken from now on.
    pub(super) fn closing(&self) {
        self.state().closing_since.get_or_insert_with(Instant::now);
    }

    /// A request with so many headers has begun; it lasts until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>, headers: usize) -> InFlight {
        let memory = self.place.memory();
        let held = memory.hold(REQUEST_BYTES.saturating_add(headers.saturating_mul(HEADER_BYTES)));
        let mut state = self.state();
        state.overdrawn |= memory.is_overdrawn();
        let before = state.in_flight;
        state.in_flight += 1;
        state.any_request = true;
        state.head_since = None;
        if let Some(allowance) = &mut state.control_frames {
            allowance.begun();
        }
        InFlight { activity: self.clone(), before, held: Some(held) }
    }

    /// A turn of the connection's task has begun.
    pub(super) fn turn(&self) {
        let turn = if self.http1 { HTTP1_TURN } else { HTTP2_TURN };
        self.left.store(turn, Ordering::Relaxed);
    }

    /// Whether the task may go on in this turn. Otherwise it is woken for the next one, which comes after what was
    /// ready before, and after what has come from outside.
    fn may_go_on(&self, cx: &mut Context<'_>) -> bool {
        self.left() > 0 || pin!(yield_now()).poll(cx).is_ready()
    }

    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn spend(&self, work: usize) {
        // One task spends it.
        self.left.store(self.left().saturating_sub(work), Ordering::Relaxed);
    }

    /// Whether nothing was read for a while, as too many control frames had come.
    pub(super) fn has_waited(&self) -> bool {
        self.has_waited.load(Ordering::Relaxed)
    }

    /// Bytes have come, and so many control frames with them. Says until when no more are to be read.
    fn received(&self, bytes: usize, control_frames: u32) -> Option<Instant> {
        self.spend(bytes.max(CALL));
        let mut state = self.state();
        let now = Instant::now();
        state.moved = now;
        if state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
        }
        let until = state.control_frames.as_mut()?.came(control_frames, now)?;
        self.has_waited.store(true, Ordering::Relaxed);
        Some(until)
    }

    fn sent(&self, bytes: usize) {
        self.spend(CALL);
        let mut state = self.state();
        state.moved = Instant::now();
        if let Some(allowance) = &mut state.control_frames {
            allowance.sent(bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete in itself, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// Requests of the connection that were in flight before it.
    before: usize,
    /// Until the bytes of its answer are taken, which have it from then on.
    held: Option<Held>,
}

impl InFlight {
    /// Waits until it is this request's turn, which lasts until what this gives is dropped: of a thousand that come at
    /// once on a few connections of one client, some run before those of others, and one more when one is done. One
    /// that is alone on its connection never waits.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if self.before == 0 {
            return None;
        }
        let abreast = self.activity.place.abreast();
        if let Ok(turn) = abreast.try_acquire() {
            return Some(turn);
        }
        timeout(PATIENCE, abreast.acquire()).await.ok()?.ok()
    }

    /// Counts the bytes of its answer. Where far too much was held before, the connection is cut, or a thousand requests
    /// that come at once, and are answered later, would be no less. One answer alone may be as large as it is.
    fn hold(&self, bytes: usize) -> Held {
        let memory = self.activity.place.memory();
        if memory.is_overdrawn() {
            self.activity.state().overdrawn = true;
        }
        memory.hold(bytes)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.quiet_since = Instant::now();
            state.head_since = None;
        }
    }
}

/// A socket that notes when bytes move. It wraps what is inside TLS: records of nothing but TLS's
/// own messages do not keep a connection alive.
///
/// It also ends a turn that has lasted long enough. The runtime does so after 128 reads, and where these are full of
/// HTTP/2 frames of a few bytes, each of which is answered, that is a tenth of a second of work. And it reads nothing
/// for a while where too many of them [bring no data](super::frames).
pub(super) struct Watched<T> {
    socket: T,
    activity: Arc<Activity>,
    /// Of HTTP/2.
    frames: Option<Frames>,
    /// Until then, nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    pub(super) fn new(socket: T, activity: Arc<Activity>) -> Self {
        let frames = (!activity.http1).then(Frames::new);
        Self { socket, activity, frames, pause: None }
    }
}

/// Takes what TLS has decrypted, a record at the most: to have it read into a part of the buffer would clear that
/// first.
impl<T: AsyncBufRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        if !this.activity.may_go_on(cx) {
            return Poll::Pending;
        }
        let most = buffer.remaining().min(this.activity.left());
        let mut socket = Pin::new(&mut this.socket);
        let ready = ready!(socket.as_mut().poll_fill_buf(cx))?;
        let received = &ready[..ready.len().min(most)];
        buffer.put_slice(received);
        let control = this.frames.as_mut().map_or(0, |frames| frames.control_frames(received));
        let received = received.len();
        socket.consume(received);
        if received > 0 {
            let pause = this.activity.received(received, control);
            this.pause = pause.map(|until| Box::pin(sleep_until(until)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.activity.may_go_on(cx) {
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buffer))?;
        if written > 0 {
            self.activity.sent(written);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.activity.may_go_on(cx) {
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, buffers))?;
        if written > 0 {
            self.activity.sent(written);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

pin_project! {
    /// A response body that keeps its request in flight until it is sent or given up.
    ///
    /// It hands over large data in small parts. The protocols take as much as they are given and
    /// only stop asking when their buffers are full; with all of it at once a response would seem
    /// done when a slow reader has hardly begun.
    pub(super) struct WatchedBody<B> {
        #[pin]
        body: B,
        // What is counted for it, until its bytes are taken.
        held: Option<Held>,
        rest: Bytes,
        in_flight: InFlight,
    }
}

/// Bytes of an answer, counted with its request until the last part of them is gone: a protocol takes all of a small
/// one at once, and keeps it for as long as nobody reads.
struct HeldBytes {
    bytes: Bytes,
    _of_answer: Option<Held>,
    _of_request: Option<Held>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Body> WatchedBody<B> {
    pub(super) fn new(body: B, in_flight: InFlight) -> Self {
        let len = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let held = (len > SMALL_BYTES).then(|| in_flight.hold(len));
        Self { body, held, rest: Bytes::new(), in_flight }
    }
}

impl<B: Body<Data = Bytes>> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            let frame = match ready!(this.body.poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(bytes) => {
                    *this.rest = Bytes::from_owner(HeldBytes {
                        bytes,
                        _of_answer: this.held.take(),
                        _of_request: this.in_flight.held.take(),
                    });
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let part = this.rest.split_to(this.rest.len().min(CHUNK_LEN));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound first: setting a lower one above it panics.
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(of_body.lower().saturating_add(rest));
        hint
    }
}

/// Limits come from an operator, who may mean "never" by a very large one.
fn later(instant: Instant, duration: Duration) -> Instant {
    instant.checked_add(duration).unwrap_or_else(|| instant + FAR)
}

/// For a connection to say goodbye when no request is in flight: time for what little is still on
/// its way and for some round trips, too short to be worth having.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// What a connection does before others have their turn, in bytes that it reads: the largest body takes some hundred
/// turns.
const HTTP1_TURN: usize = 4 * 1024;

/// The same where it may be frames of a few bytes, each of which is answered. The largest body takes some hundreds.
const HTTP2_TURN: usize = 1024;

/// What a read or a write of a few bytes is, in bytes that are read: it takes so much longer.
const CALL: usize = 16;

/// How long a request waits for others of its client at the most: thirty thousand reads are done meanwhile, and where
/// the database stands still, others need not.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a request takes until its answer is sent, besides the bytes of both: the state of its stream, and what works on
/// it.
const REQUEST_BYTES: usize = 8 * 1024;

/// What a header takes, however short it is: HTTP/2 has a thousand of a byte each on the wire in the largest head.
const HEADER_BYTES: usize = 170;

/// An answer of no more bytes is counted with its request: most are.
const SMALL_BYTES: usize = 2 * 1024;

/// Bytes of a body handed over at once.
const CHUNK_LEN: usize = 16 * 1024;

/// A year: what "never" comes to. Instants further away overflow.
pub(super) const FAR: Duration = Duration::from_secs(365 * 86_400);
