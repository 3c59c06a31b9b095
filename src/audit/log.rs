//! The audit log as requests see it: what they ask before they begin, and wait for at their end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::{
    Error, Options,
    chain::{Chain, Rotation},
    folder::{self, Lock},
    line::{Entry, Pending},
    queue::{Put, Refused, Sender, queue},
    record::RequestRecord,
    recovery::Ends,
    writer::Writer,
};
use crate::{
    domain::Clock,
    measure::{Times, TimesMeasured},
};

/// The audit log of a server. Clones are the same log; it ends when the last one is dropped or
/// [`AuditLog::close`] is called.
#[derive(Clone)]
pub struct AuditLog(Arc<Shared>);

/// What became of records since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were written, and notices of the log about itself; not its signatures.
    pub written: u64,
    /// Requests that were told of an error because writing their record failed. Those whose record took too
    /// long or found no room are counted in `refused` alone, and a caller that went away is told nothing.
    pub failed: u64,
    /// Records that were written after the caller of the request was told of an error. One that was given up
    /// just while it was written counts too, though its line was made before and lacks `late`.
    pub late: u64,
    /// Records that will not be written: there was no room to keep them, or the log had ended.
    pub lost: u64,
    /// Requests that were answered with an error, because of their record.
    pub refused: Refusals,
}

/// How many requests were refused because their records could not be written, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The log could not be written.
    pub unavailable: u64,
    /// Too many records were waiting.
    pub queue_full: u64,
    /// The record took too long.
    pub timed_out: u64,
}

/// Records that are not written yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records that wait for the thread that writes.
    pub queued: u64,
    /// Records that the thread has, such as while the log cannot be written.
    pub taken: u64,
    /// How long the oldest of all these has waited.
    pub age: Duration,
}

/// The record of a request could not be written, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRecorded;

struct Shared {
    queue: Sender<Message>,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What requests see of the thread.
#[derive(Default)]
pub(super) struct State {
    /// No request is to begin.
    pub(super) refusing: AtomicBool,
    /// Requests that were refused before they began, and no line tells of yet.
    pub(super) refused: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) lost: AtomicU64,
    /// How long records took from their putting in until they were in the file.
    pub(super) times: Times,
    /// What the thread has taken and not written yet.
    pub(super) taken: Mutex<Waiting>,
    unavailable: AtomicU64,
    queue_full: AtomicU64,
    timed_out: AtomicU64,
}

/// Records that wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    pub(super) number: usize,
    /// Since when the oldest does.
    pub(super) since: Option<Instant>,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) enum Message {
    Record {
        pending: Pending,
        /// When it was put in.
        since: Instant,
        change: bool,
        reply: Option<Reply>,
    },
    /// Look whether requests can begin again.
    Wake,
    Close,
}

/// The way to the request that waits for its record.
pub(super) struct Reply {
    pub(super) sender: oneshot::Sender<Result<(), NotRecorded>>,
    /// It waits no longer: its caller was told of an error.
    pub(super) given_up: Arc<AtomicBool>,
}

impl Reply {
    pub(super) fn send(self, result: Result<(), NotRecorded>) {
        // Whoever waited may be gone.
        let _gone = self.sender.send(result);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

impl AuditLog {
    /// Begins to write the first chain `server-1`, `server-2`, … that no other process writes.
    ///
    /// # Errors
    ///
    /// Where a folder is open to others or cannot be written, or all chains are taken.
    pub fn start(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        folder::ensure_private(&options.folder)?;
        for number in 1..=MAX_SERVERS {
            let writer = options.folder.join(format!("server-{number}"));
            folder::ensure_private(&writer)?;
            let Some(lock) = Lock::take(&writer)? else { continue };
            let rotation = Rotation::from(options);
            let chain = Chain::open(&writer, Ends::Stopped, rotation, clock.now())?;
            info!(chain = %chain.folder.display(), "the audit log is open");
            return Self::spawn(chain, lock, options, clock);
        }
        Err(Error::Busy(options.folder.clone()))
    }

    fn spawn(
        chain: Chain,
        lock: Lock,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (queue, messages) = queue(options.queue);
        let state = Arc::new(State::default());
        let writer = Writer::new(chain, lock, options, Arc::clone(&clock), Arc::clone(&state));
        let thread = writer.spawn(messages).map_err(Error::io(&options.folder))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self(Arc::new(Shared { queue, state, clock, thread })))
    }

    /// Whether a request may begin: false while its record could not be written.
    pub fn admits(&self) -> bool {
        let refusing = self.0.state.refusing.load(Ordering::Acquire);
        if refusing {
            count(&self.0.state.refused);
            count(&self.0.state.unavailable);
        }
        !refusing
    }

    /// Whether records can be written now.
    pub fn is_ready(&self) -> bool {
        !self.0.state.refusing.load(Ordering::Acquire)
    }

    /// What became of records since the start.
    pub fn counts(&self) -> Counts {
        let state = &self.0.state;
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            written: number(&state.written),
            failed: number(&state.failed),
            late: number(&state.late),
            lost: number(&state.lost),
            refused: Refusals {
                unavailable: number(&state.unavailable),
                queue_full: number(&state.queue_full),
                timed_out: number(&state.timed_out),
            },
        }
    }

    /// How long records took from the end of their request until they were in the file, since the start.
    pub fn times(&self) -> TimesMeasured {
        self.0.state.times.measured()
    }

    /// What is not written yet.
    pub fn lag(&self) -> Lag {
        // In this order: what the thread takes meanwhile is missed, and not told twice.
        let taken = *self.0.state.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (queued, since) = self.0.queue.look(|messages| {
            let mut records = messages.iter().filter_map(|message| match message {
                Message::Record { since, .. } => Some(*since),
                Message::Wake | Message::Close => None,
            });
            let first = records.next();
            (usize::from(first.is_some()) + records.count(), first)
        });
        let oldest = [taken.since, since].into_iter().flatten().min();
        let age = oldest.map(|since| since.elapsed()).unwrap_or_default();
        Lag { queued: queued as u64, taken: taken.number as u64, age }
    }

    /// Records a request. When this returns, the record is in the file.
    ///
    /// # Errors
    ///
    /// [`NotRecorded`] where it could not be written, or not within five seconds. The record is kept
    /// and written later, so the caller of the request must be told of an error; where too many are
    /// kept already, it is lost, and a line tells how many were.
    pub async fn record(&self, record: RequestRecord) -> Result<(), NotRecorded> {
        let state = &self.0.state;
        let (sender, answer) = oneshot::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let reply = Reply { sender, given_up: Arc::clone(&given_up) };
        let put = self.put(record, Some(reply)).map_err(|why| {
            count(match why {
                Refused::Full => &state.queue_full,
                Refused::Gone => &state.unavailable,
            });
            NotRecorded
        })?;
        if put.is_first() {
            // Those that are ready besides come first, and share the batch.
            tokio::task::yield_now().await;
        }
        drop(put);
        match tokio::time::timeout(MAX_WAIT, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            // There was no room to keep it, or the thread is gone.
            Ok(_) => {
                count(&state.unavailable);
                Err(NotRecorded)
            }
            // The thread is stuck in a disk that does not answer.
            Err(_) => {
                given_up.store(true, Ordering::Release);
                count(&state.timed_out);
                self.refuse_until_written();
                Err(NotRecorded)
            }
        }
    }

    /// Records a request whose caller is gone, without waiting.
    pub fn record_abandoned(&self, mut record: RequestRecord) {
        record.abandon();
        if let Err(why) = self.put(record, None) {
            let why = match why {
                Refused::Full => "the queue is full",
                Refused::Gone => "the log has ended",
            };
            error!(why, "the record of a request whose caller went away is lost");
        }
    }

    /// Writes what waits, signs it and ends the thread. Waits five seconds for that at most; a thread that is
    /// stuck in a disk is left to itself.
    pub async fn close(&self) {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // A blocking wait would go on in the runtime, whose end waits for it without limit: as long as a disk
        // does not answer.
        let ended = tokio::time::timeout(MAX_WAIT, async {
            // The queue may be full, until the thread makes room.
            while let Err(Refused::Full) = self.0.queue.send(Message::Close) {
                tokio::time::sleep(END_POLL).await;
            }
            while !thread.is_finished() {
                tokio::time::sleep(END_POLL).await;
            }
        });
        if ended.await.is_err() || thread.join().is_err() {
            error!("the audit log did not end in time");
        }
    }

    /// Gives a record to the thread, which is woken when what is returned is dropped.
    fn put(
        &self,
        record: RequestRecord,
        reply: Option<Reply>,
    ) -> Result<Put<'_, Message>, Refused> {
        let change = record.is_change();
        let pending = Pending::new(self.0.clock.now(), &Entry::Request(Box::new(record)));
        let since = Instant::now();
        self.0.queue.put(Message::Record { pending, since, change, reply }).inspect_err(|_| {
            count(&self.0.state.lost);
            self.refuse_until_written();
        })
    }

    /// Refuses requests until the thread has written what waits.
    pub(super) fn refuse_until_written(&self) {
        self.0.state.refusing.store(true, Ordering::Release);
        // The thread may have worked the queue off since, and would wait for a message that nobody may send
        // any more. A full queue wakes it, too.
        let _full = self.0.queue.send(Message::Wake);
    }
}

/// How long a request waits for its record to be written: far more than a disk takes, less than clients
/// wait for an answer.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How often it looks whether the thread has ended, which takes some milliseconds.
const END_POLL: Duration = Duration::from_millis(5);

/// Servers that share one folder.
const MAX_SERVERS: u32 = 64;
