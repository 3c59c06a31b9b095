//! Workers that ask: each after its answer, or all together at a fixed rate.
//!
//! At a fixed rate, a time is that from when the question was due to its answer: where the server keeps a
//! worker waiting, the questions that it could not ask meanwhile count as late, as they are for whoever wanted
//! to ask them. Nothing is left out because the server was slow ("coordinated omission").

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{io::unix::AsyncFd, task::JoinSet, time::sleep_until};

use super::process::Usage;

/// Somebody who asks one thing at a time.
pub trait Worker: Send {
    /// Asks, and waits for the whole answer. What is not the answer that is expected is an error, and ends the
    /// benchmark: the times of failures say nothing.
    fn ask(&mut self) -> BoxFuture<'_, Result<(), String>>;
}

/// When workers ask.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each as soon as it has its answer.
    Closed,
    /// All together so often a second, evenly.
    Rate(f64),
}

/// What came of it.
pub struct Measured {
    pub answers: u64,
    pub seconds: f64,
    /// Microseconds to an answer.
    pub times: Histogram<u64>,
    /// What the process that answers took meanwhile, where there is one.
    pub usage: Option<Usage>,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }
}

/// Lets all workers ask for `time`, after a time that is not counted.
///
/// # Panics
///
/// When an answer is not the one that is expected.
pub async fn run(
    workers: Vec<Box<dyn Worker>>,
    pace: Pace,
    warm_up: Duration,
    time: Duration,
    process: Option<u32>,
) -> Measured {
    let count = workers.len();
    // A moment for all tasks to be there.
    let start = Instant::now() + Duration::from_millis(10);
    let window = Window { start, from: start + warm_up, to: start + warm_up + time };
    let mut tasks = JoinSet::new();
    for (index, worker) in workers.into_iter().enumerate() {
        tasks.spawn(async move {
            match pace {
                Pace::Closed => ask_in_turn(worker, window).await,
                Pace::Rate(rate) => {
                    let every = Duration::from_secs_f64(count as f64 / rate);
                    let first = start + every.mul_f64(index as f64 / count as f64);
                    ask_on_time(worker, window, first, every).await
                }
            }
        });
    }
    let usage = async {
        sleep_until(window.from.into()).await;
        let before = process.map(Usage::of);
        sleep_until(window.to.into()).await;
        process.map(Usage::of).zip(before).map(|(after, before)| after.since(&before))
    };
    let usage = usage.await;
    let mut times = new_times();
    while let Some(done) = tasks.join_next().await {
        let worker = done.expect("a worker ends").expect("the answer that is expected");
        times.add(worker).expect("the same bounds");
    }
    Measured { answers: times.len(), seconds: time.as_secs_f64(), times, usage }
}

/// What is counted: what is answered between `from` and `to`; at a fixed rate, what was due then.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    from: Instant,
    to: Instant,
}

async fn ask_in_turn(
    mut worker: Box<dyn Worker>,
    window: Window,
) -> Result<Histogram<u64>, String> {
    let mut times = new_times();
    sleep_until(window.start.into()).await;
    let mut asked = Instant::now();
    loop {
        worker.ask().await?;
        let answered = Instant::now();
        if answered >= window.to {
            return Ok(times);
        }
        if answered >= window.from {
            times.saturating_record(micros(answered - asked));
        }
        asked = answered;
    }
}

async fn ask_on_time(
    mut worker: Box<dyn Worker>,
    window: Window,
    first: Instant,
    every: Duration,
) -> Result<Histogram<u64>, String> {
    let (mut times, alarm) = (new_times(), Alarm::new());
    let mut due = first;
    while due < window.to {
        alarm.wait_until(due).await;
        worker.ask().await?;
        if due >= window.from {
            times.saturating_record(micros(due.elapsed()));
        }
        due += every;
    }
    Ok(times)
}

/// A timer of the system: that of the runtime is a millisecond late, which is more than most answers take.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    fn new() -> Self {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
        Self(AsyncFd::register(timer.expect("a timer")).expect("a timer of the runtime"))
    }

    async fn wait_until(&self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).expect("not long"),
            tv_nsec: left.subsec_nanos().into(),
        };
        let timer = Itimerspec { it_interval: never, it_value: left };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &timer).expect("a timer");
        loop {
            let mut ready = self.0.readable().await.expect("a timer");
            if ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)).is_ok() {
                return;
            }
        }
    }
}

/// From a microsecond to a minute, to three digits.
fn new_times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("not long")
}
