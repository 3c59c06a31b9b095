//! Turns of handshakes.
//!
//! A handshake takes most of a millisecond of CPU, for somebody of whom nothing is known, and a hundred may begin at
//! once. No more than one for each core goes on at a time, by a step, in the order in which they are ready: so what is
//! ready for those who are connected waits for one step, and not for a hundred. See `cargo bench --bench hostile`.
//!
//! Threads of a lower priority would do it, too. But Linux lets one that runs finish its slice of some milliseconds,
//! whoever comes. Half of the cores did no better, and were too few where nobody asks for anything else.

use std::{
    future::poll_fn, mem, pin::pin, sync::LazyLock, task::Poll, thread::available_parallelism,
};

use tokio::{sync::Semaphore, task::yield_now};

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
