//! HTTP/2 frames that bring no data, and how many there may be.
//!
//! Pings, settings and their like are a few bytes each, mostly want an answer, and can be sent without end by who never
//! makes a request that a limit of requests would count (RFC 9113, 10.5; CVE-2019-9512, CVE-2019-9515). So can heads
//! for a request that is over, and data of nothing. What comes on a connection is not read for a while where there are
//! too many of them. It is not closed: who floods would make the next one, and a handshake costs more.
//!
//! `cargo bench --bench hostile -- Settings` (2026-11-30, two cores): with four connections that send nothing but
//! settings, the p99 of reads of others was 2.3 times as long as without them, and is 1.0 times with a rate.
//!
//! Clients need some: they ask, tell that there is room for more of an answer, take requests back, and measure how long
//! an answer takes to come. So requests and answers earn some that count no further.

use std::time::Duration;

use tokio::time::Instant;

/// Finds the frames in what comes on a connection, in whatever parts that is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes until the next head begins.
    to_skip: usize,
    head: [u8; HEAD_LEN],
    head_len: usize,
}

impl Frames {
    /// Those of a connection on which nothing has come.
    pub(super) fn new() -> Self {
        Self { to_skip: PREFACE_LEN, head: [0; HEAD_LEN], head_len: 0 }
    }

    /// How many heads of control frames end in what comes next.
    pub(super) fn control_frames(&mut self, mut bytes: &[u8]) -> u32 {
        let mut control = 0;
        loop {
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_LEN - self.head_len).min(bytes.len());
            self.head[self.head_len..][..taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken;
            bytes = &bytes[taken..];
            if self.head_len < HEAD_LEN {
                return control;
            }
            self.head_len = 0;
            let [high, middle, low, kind, ..] = self.head;
            self.to_skip = u32::from_be_bytes([0, high, middle, low]) as usize;
            control += u32::from(kind != DATA || self.to_skip == 0);
        }
    }
}

/// The control frames that may come on a connection: as many as a rate allows in a second at once, and again at that
/// rate, beside those that are earned. One bucket, as those of [`Buckets`](crate::buckets::Buckets), which many callers
/// share and nobody earns anything in.
#[derive(Debug)]
pub(super) struct Allowance {
    /// For how long a frame takes from what there may be.
    step: Duration,
    /// When as many may come at once as ever.
    full_at: Instant,
    /// Bytes that were sent, for which frames may come.
    earned: usize,
}

impl Allowance {
    /// `rate` control frames in a second; none where it is 0, which is no limit.
    pub(super) fn new(rate: u32, now: Instant) -> Option<Self> {
        let step = SECOND.checked_div(rate)?;
        Some(Self { step, full_at: now, earned: 0 })
    }

    /// Bytes of answers are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.earned = self.earned.saturating_add(bytes).min(MOST_EARNED);
    }

    /// A request has begun.
    pub(super) fn begun(&mut self) {
        self.sent(REQUEST_FRAMES * BYTES_OF_FRAME);
    }

    /// So many have come. Says until when no more are to be read, where that is too many.
    pub(super) fn came(&mut self, frames: u32, now: Instant) -> Option<Instant> {
        let earned = u32::try_from(self.earned / BYTES_OF_FRAME).unwrap_or(u32::MAX).min(frames);
        self.earned -= earned as usize * BYTES_OF_FRAME;
        self.full_at = self.full_at.max(now) + self.step * (frames - earned);
        let excess = self.full_at.duration_since(now).checked_sub(SECOND)?;
        (!excess.is_zero()).then(|| now + excess)
    }
}

/// "PRI * HTTP/2.0…", with which a client begins.
const PREFACE_LEN: usize = 24;
/// Length, kind, flags and stream of a frame.
const HEAD_LEN: usize = 9;
const DATA: u8 = 0;

const SECOND: Duration = Duration::from_secs(1);

/// A frame for so many bytes of answers. Clients that tell often that they have room for more (those in Go, from 4 KiB
/// on, for the stream and for the connection) send half as many.
const BYTES_OF_FRAME: usize = 1_024;

/// Frames for a request: its head, and in some clients a priority, trailers or an end by itself, one that takes it
/// back, and a ping after that.
const REQUEST_FRAMES: usize = 6;

/// What is earned and not used, at the most: as much as clients and what is on the way to them hold of answers of which
/// they have told nothing yet, and no more, so that a connection that was long in use floods no more than others.
const MOST_EARNED: usize = 16 * 1_024 * 1_024;
