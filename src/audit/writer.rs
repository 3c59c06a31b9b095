//! The thread that writes, trouble and its end.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    Options, Sync,
    chain::{Chain, Fault},
    folder::Lock,
    line::{Entry, Notice, Pending, What},
    log::{self, Message, NotRecorded, Reply, State, count},
    queue::Receiver,
    sinks::Sinks,
};
use crate::domain::{Clock, Timestamp};

/// What the thread works with.
pub(super) struct Writer {
    chain: Chain,
    /// Dropped after the chain, which may have a thread that writes in the folder.
    lock: Lock,
    sync: Sync,
    interval: Duration,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
    sinks: Sinks,
    waiting: VecDeque<Waiting>,
    /// Lost records that a line tells of.
    told_lost: u64,
    trouble: Option<Trouble>,
    checkpoint_at: Option<Instant>,
}

struct Waiting {
    pending: Pending,
    since: Instant,
    change: bool,
    reply: Option<Reply>,
}

/// The log could not be written.
struct Trouble {
    since: Timestamp,
    retry_at: Instant,
    /// The file still takes records: there is no room to reserve, or none to put the keys forward.
    writable: bool,
}

impl Writer {
    pub(super) fn new(
        chain: Chain,
        lock: Lock,
        options: &Options,
        clock: Arc<dyn Clock>,
        state: Arc<State>,
    ) -> Self {
        Self {
            chain,
            lock,
            sync: options.sync,
            interval: options.checkpoint_interval,
            clock,
            state,
            sinks: Sinks::start(options),
            waiting: VecDeque::new(),
            told_lost: 0,
            trouble: None,
            checkpoint_at: None,
        }
    }

    /// Writes what comes in `messages` until the last one, on a thread of its own.
    pub(super) fn spawn(mut self, messages: Receiver<Message>) -> io::Result<JoinHandle<()>> {
        self.note(What::Started, None);
        thread::Builder::new().name("okmsd-audit".to_owned()).spawn(move || self.run(&messages))
    }

    fn run(mut self, messages: &Receiver<Message>) {
        let mut open = true;
        while open {
            let batch = messages.take(self.wake_at(), MAX_BATCH);
            open = batch.is_some();
            for message in batch.unwrap_or_default() {
                open &= self.take(message);
            }
            self.tell_waiting();
            self.work();
            self.tell_waiting();
        }
        // Requests may have come to their end while the log was closed.
        for message in messages.take(Some(Instant::now()), usize::MAX).unwrap_or_default() {
            self.take(message);
        }
        self.end();
        // Whoever comes now is told by the queue, which is closed.
        let late = messages.close();
        let lost = late.iter().filter(|message| matches!(message, Message::Record { .. })).count();
        if lost > 0 {
            self.state.lost.fetch_add(lost as u64, Ordering::Relaxed);
            error!(lost, "records came after the end of the audit log");
        }
    }

    /// When there is something to do besides what comes.
    fn wake_at(&self) -> Option<Instant> {
        match &self.trouble {
            None if !self.waiting.is_empty() => Some(Instant::now()),
            // One is told of when it is on the disk, and the next one waits for it.
            None if self.chain.behind.is_some() => Some(Instant::now() + BEHIND_POLL),
            None => self.checkpoint_at,
            // In trouble, signing waits as well.
            Some(trouble) => Some(trouble.retry_at),
        }
    }

    /// Takes a message; false where it is the last one.
    fn take(&mut self, message: Message) -> bool {
        let (pending, since, change, reply) = match message {
            Message::Record { pending, since, change, reply } => (pending, since, change, reply),
            Message::Wake => return true,
            Message::Close => return false,
        };
        if self.waiting.len() >= MAX_WAITING {
            count(&self.state.lost);
            drop(reply);
            return true;
        }
        self.waiting.push_back(Waiting { pending, since, change, reply });
        true
    }

    /// Tells what waits now to whoever looks.
    fn tell_waiting(&self) {
        let since = self.waiting.front().map(|waiting| waiting.since);
        let waiting = log::Waiting { number: self.waiting.len(), since };
        *self.state.taken.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    fn work(&mut self) {
        match &self.trouble {
            None => match self.write_all() {
                Ok(()) if self.chain.short => {
                    self.fail(&Fault::Io(io::ErrorKind::StorageFull.into()), true)
                }
                Ok(()) => self.state.refusing.store(false, Ordering::Release),
                Err((fault, writable)) => self.fail(&fault, writable),
            },
            Some(trouble) => {
                let due = trouble.retry_at <= Instant::now();
                // The room that is left is for requests that were under way.
                if trouble.writable
                    && let Err(fault) = self.write_waiting()
                {
                    self.fail(&fault, false);
                }
                self.refuse_waiting();
                if due {
                    self.resume();
                }
            }
        }
        if self.trouble.is_none() {
            self.sign();
        }
        self.sinks.send(mem::take(&mut self.chain.outbox));
    }

    /// Writes what waits, and what was refused or lost meanwhile. A failure tells whether the file still takes
    /// records.
    fn write_all(&mut self) -> Result<(), (Fault, bool)> {
        self.note_missing();
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.write_waiting().map_err(|fault| (fault, false))?;
        self.chain.rotate_if_due(self.clock.now()).map_err(|fault| {
            let writable = matches!(fault, Fault::Io(_));
            (fault, writable)
        })
    }

    /// Has lines tell of requests and records that have none. Also where they cannot be written at once: they
    /// wait like any other.
    fn note_missing(&mut self) {
        let lost = self.state.lost.load(Ordering::Relaxed);
        let untold = lost - self.told_lost;
        if untold > 0 {
            self.note(What::Lost, Some(format!("{untold} records found no room to wait")));
            self.told_lost = lost;
        }
        let refused = self.state.refused.swap(0, Ordering::Relaxed);
        if refused > 0 {
            let detail = format!("{refused} requests, while earlier ones waited for their records");
            self.note(What::Refused, Some(detail));
        }
    }

    /// Writes what waits, and answers.
    fn write_waiting(&mut self) -> Result<(), Fault> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let sync = match self.sync {
            Sync::Each => true,
            Sync::Changes => self.waiting.iter().any(|waiting| waiting.change),
            Sync::Interval => false,
        };
        self.mark_late();
        let now = self.clock.now();
        let entries = self.waiting.iter().map(|waiting| &waiting.pending);
        self.chain.append_or_leave(entries, sync, now, &mut self.lock)?;
        self.finish_waiting();
        self.checkpoint_at.get_or_insert_with(|| Instant::now() + self.interval);
        if self.chain.unsigned >= MAX_UNSIGNED || self.chain.kept_bytes() >= MAX_KEPT {
            self.checkpoint_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Has the records say so that come too late for their callers.
    fn mark_late(&mut self) {
        for waiting in &mut self.waiting {
            waiting.pending.late |= waiting.reply.as_ref().is_some_and(Reply::is_given_up);
        }
    }

    /// Counts and answers what waited and is written now.
    fn finish_waiting(&mut self) {
        self.state.written.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
        let now = Instant::now();
        for Waiting { pending, since, reply, .. } in self.waiting.drain(..) {
            self.state.times.add(now - since);
            // The disk may have taken so long that nobody waits any more.
            if pending.late || reply.as_ref().is_some_and(Reply::is_given_up) {
                count(&self.state.late);
            }
            if let Some(reply) = reply {
                reply.send(Ok(()));
            }
        }
    }

    /// Signs where it is time to, and takes note of a checkpoint that the disk has by now. That comes after the
    /// records: whatever becomes of it, they can be written.
    fn sign(&mut self) {
        let is_due = self.checkpoint_at.is_some_and(|at| at <= Instant::now());
        let signed = match &self.chain.behind {
            Some(behind)
                if behind.is_done()
                    || is_late(behind.age(), self.interval, self.chain.unsigned)
                    || self.chain.kept_bytes() >= 2 * MAX_KEPT =>
            {
                self.chain.save_keys()
            }
            None if is_due => {
                let signed = self.chain.checkpoint_behind(self.clock.now());
                signed.map(|()| self.checkpoint_at = None)
            }
            _ => return,
        };
        match signed {
            Ok(()) => {}
            Err(Fault::Io(error)) => self.fail(&Fault::Io(error), true),
            // The next record goes to a new file; this one may be a while off.
            Err(Fault::Leave(..)) => {
                let now = self.clock.now();
                match self.chain.append_or_leave([], true, now, &mut self.lock) {
                    Ok(()) => self.checkpoint_at = Some(Instant::now() + self.interval),
                    Err(fault) => self.fail(&fault, false),
                }
            }
        }
    }

    /// Notes that the log cannot be written: no request begins until it can.
    fn fail(&mut self, fault: &Fault, writable: bool) {
        let now = self.clock.now();
        self.state.refusing.store(true, Ordering::Release);
        let since = match &self.trouble {
            Some(trouble) => trouble.since,
            None => {
                error!(why = %fault, "the audit log cannot be written: requests are refused until it can");
                now
            }
        };
        self.trouble = Some(Trouble { since, retry_at: Instant::now() + RETRY, writable });
        self.refuse_waiting();
    }

    /// Tells those who wait that they cannot be recorded now. Their records stay.
    fn refuse_waiting(&mut self) {
        for waiting in &mut self.waiting {
            if let Some(reply) = waiting.reply.take() {
                waiting.pending.late = true;
                count(&self.state.failed);
                reply.send(Err(NotRecorded));
            }
        }
    }

    /// Tries again, after trouble.
    fn resume(&mut self) {
        let Some(Trouble { since, writable, .. }) = self.trouble else { return };
        if let Err((fault, writable)) = self.try_again(since, writable) {
            self.fail(&fault, writable);
            return;
        }
        self.trouble = None;
        self.state.refusing.store(false, Ordering::Release);
        info!("the audit log can be written again");
    }

    /// Writes what waits and signs it. A failure tells whether the file still takes records.
    fn try_again(&mut self, since: Timestamp, writable: bool) -> Result<(), (Fault, bool)> {
        self.refuse_waiting();
        let still = |error| (Fault::Io(error), writable);
        match self.chain.save_keys() {
            Err(Fault::Io(error)) => return Err(still(error)),
            // A file that is to be left is left below.
            Ok(()) | Err(Fault::Leave(..)) => {}
        }
        self.chain.reserve().map_err(still)?;
        let refused = self.state.refused.load(Ordering::Relaxed);
        let lost = self.state.lost.load(Ordering::Relaxed);
        let detail = format!(
            "not writable since {}; refused {refused} requests, kept {} records, lost {}",
            since.to_rfc3339_millis(),
            self.waiting.len(),
            lost - self.told_lost
        );
        let notice = Entry::Notice(Notice { what: What::Resumed, detail: Some(detail) });
        let now = self.clock.now();
        let mut notices = vec![Pending::new(now, &notice)];
        if lost > self.told_lost {
            let detail = Some(format!("{} records found no room to wait", lost - self.told_lost));
            let notice = Entry::Notice(Notice { what: What::Lost, detail });
            notices.push(Pending::new(now, &notice));
        }
        self.mark_late();
        let entries = notices.iter().chain(self.waiting.iter().map(|waiting| &waiting.pending));
        let appended = self.chain.append_or_leave(entries, true, now, &mut self.lock);
        appended.map_err(|fault| (fault, false))?;
        self.state.written.fetch_add(1, Ordering::Relaxed);
        self.finish_waiting();
        self.told_lost = lost;
        self.state.refused.fetch_sub(refused, Ordering::Relaxed);
        self.chain.checkpoint(self.clock.now()).map_err(|fault| (fault, true))?;
        self.checkpoint_at = None;
        Ok(())
    }

    fn end(&mut self) {
        // What it fails to take is written once more below.
        let _settled = self.chain.settle();
        if self.trouble.is_some() {
            self.resume();
        }
        self.note_missing();
        self.note(What::Stopped, None);
        // No new file now: a start looks for these two lines at the end of the last one.
        let ended = self.write_waiting().and_then(|()| self.chain.checkpoint(self.clock.now()));
        if let Err(fault) = ended {
            let lost = self.waiting.iter().filter(|waiting| waiting.pending.of_request).count();
            self.state.lost.fetch_add(lost as u64, Ordering::Relaxed);
            error!(?fault, lost, "the end of the audit log cannot be written");
        }
        self.sinks.send(mem::take(&mut self.chain.outbox));
        self.chain.release();
        self.sinks.end();
    }

    fn note(&mut self, what: What, detail: Option<String>) {
        let pending = Pending::new(self.clock.now(), &Entry::Notice(Notice { what, detail }));
        let since = Instant::now();
        self.waiting.push_back(Waiting { pending, since, change: true, reply: None });
    }
}

/// Whether a checkpoint is waited for that has been on its way for so long, with so many lines after it.
pub(super) fn is_late(age: Duration, interval: Duration, unsigned: u64) -> bool {
    age >= interval.saturating_mul(MAX_BEHIND).min(MAX_TIME_BEHIND) || unsigned >= MAX_UNSIGNED
}

/// Records that are written as one piece: about a megabyte.
const MAX_BATCH: usize = 1_024;

/// Records that are kept while the log cannot be written: those of requests that were under way when it
/// broke, and no others.
const MAX_WAITING: usize = 65_536;

/// Lines after which they are signed, however short a time it took; where a checkpoint is still on its way, it is
/// waited for.
const MAX_UNSIGNED: u64 = 10_000;

/// Bytes that are kept until the disk has them, after which they are signed as well: twice what as many usual lines
/// take. At twice that, a checkpoint that is on its way is waited for.
pub(super) const MAX_KEPT: u64 = 16 * 1024 * 1024;

/// Intervals for which a checkpoint may be on its way, while nothing else is signed and its key is not destroyed.
/// Then records wait for the disk: one that is busy for a moment holds nothing back, and one that is stuck does not
/// leave the log unsigned.
const MAX_BEHIND: u32 = 3;

/// The same, where intervals are long: far more than a disk takes that works.
const MAX_TIME_BEHIND: Duration = Duration::from_secs(10);

/// How often it is looked whether the disk has a checkpoint, where no records come.
const BEHIND_POLL: Duration = Duration::from_millis(2);

/// How often it is tried again: soon enough that nobody notices how long.
const RETRY: Duration = Duration::from_millis(250);
