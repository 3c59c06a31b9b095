//! Workers that ask: each after its answer, or all together at a fixed rate.
//!
//! At a fixed rate, a time is that from when the question was due to its answer: where the server keeps all
//! workers waiting, the questions that are due meanwhile count as late, as they are for whoever wanted to ask
//! them. Nothing is left out because the server was slow ("coordinated omission").

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::sleep_until,
};

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
    // A moment for all tasks to be there.
    let start = Instant::now() + Duration::from_millis(10);
    let window = Window { start, from: start + warm_up, to: start + warm_up + time };
    let mut tasks = JoinSet::new();
    let due = match pace {
        Pace::Closed => None,
        Pace::Rate(rate) => Some(metronome(window, rate)),
    };
    for worker in workers {
        let due = due.clone();
        tasks.spawn(async move {
            match due {
                None => ask_in_turn(worker, window).await,
                Some(due) => ask_on_time(worker, window, due).await,
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

/// Takes the next question that is due, whoever is free.
async fn ask_on_time(
    mut worker: Box<dyn Worker>,
    window: Window,
    due: Due,
) -> Result<Histogram<u64>, String> {
    let mut times = new_times();
    loop {
        let next = due.lock().await.recv().await;
        let Some(due) = next else { return Ok(times) };
        worker.ask().await?;
        if due >= window.from {
            times.saturating_record(micros(due.elapsed()));
        }
    }
}

/// When questions are due, each told when it is.
type Due = Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>;

/// Tells of each question when it is due. In a thread of its own: the timers of the runtime are a millisecond
/// late, which is more than most answers take.
fn metronome(window: Window, rate: f64) -> Due {
    let (told, due) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for number in 0_u32.. {
            let due = window.start + Duration::from_secs_f64(f64::from(number) / rate);
            if due >= window.to {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if told.send(due).is_err() {
                break;
            }
        }
    });
    Arc::new(Mutex::new(due))
}

/// From a microsecond to a minute, to three digits.
fn new_times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("not long")
}
