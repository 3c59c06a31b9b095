//! Turns of handshakes, and the rate of those of one client.
//!
//! A handshake takes most of a millisecond of CPU, for somebody of whom nothing is known, and a hundred may begin at
//! once. No more than one for each core goes on at a time, by a step, in the order in which they are ready: so what is
//! ready for those who are connected waits for one step, and not for a hundred. See `cargo bench --bench hostile`.
//!
//! Threads of a lower priority would do it, too. But Linux lets one that runs finish its slice of some milliseconds,
//! whoever comes. Half of the cores did no better, and were too few where nobody asks for anything else.
//!
//! Turns alone still leave all cores to handshakes for as long as somebody makes one after the other, and every
//! request then waits for a step of one. So those of one [network] go on at a [rate](Pace). Beyond it they wait, as
//! many as there are places for: who was refused would come again at once.

use std::{
    future::poll_fn,
    mem,
    net::IpAddr,
    num::NonZeroUsize,
    pin::pin,
    sync::LazyLock,
    task::Poll,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::yield_now};

use crate::{
    buckets::Buckets,
    domain::{Timestamp, network},
};

/// The rate of the handshakes of each network.
pub(super) struct Pace {
    /// None where there is no limit.
    buckets: Option<Buckets>,
    /// The zero of its clock, which nobody sets.
    began: Instant,
}

impl Pace {
    /// At most so many a second, as many of which may come at once; 0 is no limit.
    pub(super) fn new(rate: u32) -> Self {
        Self { buckets: Buckets::new(rate, ROW_LEN), began: Instant::now() }
    }

    /// How long a handshake of this address has to wait; the turn is gone where it does not come. `None` where that is
    /// longer than `longest`.
    pub(super) fn wait(&self, address: IpAddr, longest: Duration) -> Option<Duration> {
        let Some(buckets) = &self.buckets else { return Some(Duration::ZERO) };
        let now = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        buckets.take_within(network(address), Timestamp::from_millis(now), longest)
    }
}

/// Does what a handshake does, step by step in its turn.
pub(super) async fn in_turn<H: Future>(handshake: H) -> H::Output {
    in_turn_of(&TURNS, handshake).await
}

/// The same, where so many go on at a time.
pub(super) async fn in_turn_of<H: Future>(turns: &Semaphore, handshake: H) -> H::Output {
    let mut handshake = pin!(handshake);
    loop {
        let turn = turns.acquire().await;
        let step = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
        drop(turn);
        if let Poll::Ready(done) = step {
            // What comes next on the connection is for a turn like all others'.
            yield_now().await;
            return done;
        }
        // It is woken when its client has said more.
        let mut woken = false;
        poll_fn(|_| if mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }
}

/// Of all listeners, as the cores are.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// 4,096 networks in each of the four rows: 128 KiB in all.
const ROW_LEN: NonZeroUsize = NonZeroUsize::new(1 << 12).unwrap();
