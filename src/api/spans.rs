//! Requests that are over, handed to whoever exports traces.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{domain::Trace, measure::add};

/// A request that was answered, as a trace tells it. It has no field for paths, bodies or callers.
#[derive(Debug)]
pub struct FinishedRequest {
    /// Its place in its trace.
    pub trace: Trace,
    /// Its id.
    pub request_id: Arc<str>,
    /// The operation's id in the OpenAPI document, if it is one.
    pub operation: Option<Arc<str>>,
    /// Its method, if that is a known one.
    pub method: &'static str,
    /// The status of its answer.
    pub status: u16,
    /// When it was answered.
    pub ended: Instant,
    /// How long it took.
    pub time: Duration,
}

/// Where finished requests are put: a queue of bounded length. What finds no room is lost, and nothing waits.
#[derive(Debug, Clone)]
pub struct SpanQueue {
    sender: mpsc::Sender<FinishedRequest>,
    lost: Arc<AtomicU64>,
}

impl SpanQueue {
    /// A queue for so many, and its other end.
    pub fn new(length: usize) -> (Self, mpsc::Receiver<FinishedRequest>) {
        let (sender, receiver) = mpsc::channel(length);
        (Self { sender, lost: Arc::default() }, receiver)
    }

    /// Where it is counted how many found no room.
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    pub(super) fn put(&self, request: FinishedRequest) {
        if request.trace.is_sampled() && self.sender.try_send(request).is_err() {
            add(&self.lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::read;

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_what_nobody_keeps_is_left_out() {
        let request = |flags: &str| {
            let traceparent = format!("00-{}-{}-{flags}", "1".repeat(32), "2".repeat(16));
            let trace = Trace::of_request([traceparent.as_bytes()].into_iter(), [9; 16]);
            let (request_id, ended) = ("x".into(), Instant::now());
            let (operation, time) = (None, Duration::ZERO);
            FinishedRequest {
                trace,
                request_id,
                operation,
                method: "GET",
                status: 200,
                ended,
                time,
            }
        };
        let (queue, mut receiver) = SpanQueue::new(2);
        for flags in ["00", "01", "00", "01", "01", "00"] {
            queue.put(request(flags));
        }
        let lost = queue.lost();
        drop(queue);
        assert_eq!(read(&lost), 1);
        let mut taken = 0;
        while let Some(request) = receiver.recv().await {
            assert!(request.trace.is_sampled());
            taken += 1;
        }
        assert_eq!(taken, 2);
    }
}
