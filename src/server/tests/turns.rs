//! Turns: what is much on one connection lets others come in between.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf, repeat, sink},
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::timeout,
};

use super::super::{
    Limits,
    activity::{Activity, InFlight, Watched},
    handshakes::in_turn_of,
    places::Places,
};

fn activity(http1: bool) -> Arc<Activity> {
    let limits = Limits::default();
    let place = Places::new(&limits).take([192, 0, 2, 1].into()).unwrap();
    Activity::new(&limits, http1, place)
}

/// How often somebody was woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// How often something is ready in one turn, until its task is to come back later, for which it is woken once.
fn ready_in_a_turn(activity: &Activity, mut poll: impl FnMut(&mut Context<'_>) -> bool) -> usize {
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    activity.turn();
    let mut ready = 0;
    while poll(&mut context) {
        ready += 1;
        assert!(ready < 10_000, "others never have their turn");
    }
    assert_eq!(woken.0.load(SeqCst), 1);
    ready
}

/// How many reads of so many bytes are in a turn.
fn reads_in_a_turn(activity: &Arc<Activity>, size: usize) -> usize {
    let mut flood = Watched::new(BufReader::new(repeat(b'x')), Arc::clone(activity));
    ready_in_a_turn(activity, |cx| {
        let mut buffer = vec![0; size];
        let mut buffer = ReadBuf::new(&mut buffer);
        Pin::new(&mut flood).poll_read(cx, &mut buffer).is_ready()
    })
}

/// How many writes of a few bytes are in a turn.
fn writes_in_a_turn(activity: &Arc<Activity>) -> usize {
    let mut socket = Watched::new(sink(), Arc::clone(activity));
    ready_in_a_turn(activity, |cx| {
        let write = Pin::new(&mut socket).poll_write(cx, b"an acknowledgement");
        matches!(write, Poll::Ready(Ok(18)))
    })
}

#[test]
fn a_connection_on_which_much_comes_reads_a_part_of_it_in_each_turn() {
    // On HTTP/2 that may be many frames, so it is less.
    for (http1, expected) in [(true, [256, 64, 32, 4, 1]), (false, [64, 16, 8, 1, 1])] {
        let activity = activity(http1);
        for _ in 0..3 {
            let reads = [8, 64, 128, 1_024, 8 * 1_024].map(|size| reads_in_a_turn(&activity, size));
            assert_eq!(reads, expected);
        }
    }
}

#[test]
fn what_is_read_in_turns_is_all_that_came_and_then_its_end() {
    for record in [1, 100, 5_000, 20_000] {
        let activity = activity(false);
        let came: Vec<u8> = (0..10_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut socket =
            Watched::new(BufReader::with_capacity(record, &came[..]), Arc::clone(&activity));
        let mut context = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        let mut ends = 0;
        while ends < 2 {
            activity.turn();
            let mut buffer = [0; 700];
            for room in [0, 700] {
                let mut buffer = ReadBuf::new(&mut buffer[..room]);
                let ready = Pin::new(&mut socket).poll_read(&mut context, &mut buffer);
                assert!(matches!(ready, Poll::Ready(Ok(()))));
                ends += usize::from(room > 0 && buffer.filled().is_empty());
                read.extend_from_slice(buffer.filled());
            }
        }
        assert_eq!(read, came);
    }
}

#[test]
fn a_connection_that_answers_much_writes_a_part_of_it_in_each_turn() {
    let activity = activity(false);
    assert_eq!([(); 3].map(|()| writes_in_a_turn(&activity)), [64, 64, 64]);
    let mut socket = Watched::new(sink(), Arc::clone(&activity));
    let vectored = |cx: &mut Context<'_>| {
        let parts = [std::io::IoSlice::new(b"one"), std::io::IoSlice::new(b"two")];
        Pin::new(&mut socket).poll_write_vectored(cx, &parts).is_ready()
    };
    assert_eq!(ready_in_a_turn(&activity, vectored), 64);
}

/// The turns of those that begin at once.
fn begin(requests: &[InFlight]) -> Vec<Option<SemaphorePermit<'_>>> {
    requests.iter().filter_map(|request| request.turn().now_or_never()).collect()
}

#[tokio::test]
async fn of_many_requests_of_one_client_some_run_at_a_time() {
    let places = Places::new(&Limits::default());
    let of = |last| {
        let place = places.take([192, 0, 2, last].into()).unwrap();
        Activity::new(&Limits::default(), false, place)
    };
    let connections = [of(1), of(1), of(2)];
    let requests = connections.each_ref().map(|connection| {
        let requests = (0..100).map(|_| connection.begin(0));
        requests.collect::<Vec<_>>()
    });
    let [first, second, other] = &requests;
    // The first one of each connection, and those that share the turns of their client.
    let mut running = begin(first);
    assert_eq!((running.len(), begin(second).len(), begin(other).len()), (65, 1, 65));
    // One that is done makes room for another.
    let waiting = &second[1];
    let ((), turn) = tokio::join!(async { drop(running.pop()) }, waiting.turn());
    assert!(turn.is_some());
    assert!(second[2].turn().now_or_never().is_none());
    // Where none is done, it runs all the same, but not at once.
    let begun = Instant::now();
    assert!(second[2].turn().await.is_none());
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_many_handshakes_go_on_at_a_time_and_no_more() {
    let turns = Arc::new(Semaphore::new(2));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handshakes = (0..20).map(|_| {
        let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
        // Three steps, as a handshake has.
        let mut steps = 0;
        let handshake = poll_fn(move |cx| {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            now.fetch_sub(1, SeqCst);
            steps += 1;
            cx.waker().wake_by_ref();
            if steps == 3 { Poll::Ready(steps) } else { Poll::Pending }
        });
        tokio::spawn(async move { in_turn_of(&turns, handshake).await })
    });
    for handshake in handshakes.collect::<Vec<_>>() {
        assert_eq!(handshake.await.unwrap(), 3);
    }
    assert!((1..=2).contains(&most.load(SeqCst)), "{most:?}");
}

#[tokio::test]
async fn a_handshake_that_waits_for_its_client_is_in_nobodys_way() {
    let turns = Arc::new(Semaphore::new(1));
    let silent = (0..100).map(|_| {
        let turns = Arc::clone(&turns);
        tokio::spawn(async move { in_turn_of(&turns, pending::<()>()).await })
    });
    let silent: Vec<_> = silent.collect();
    yield_now().await;
    let done = timeout(Duration::from_secs(60), in_turn_of(&turns, yield_now())).await;
    assert_eq!((done, turns.available_permits()), (Ok(()), 1));
    silent.iter().for_each(|silent| silent.abort());
}
