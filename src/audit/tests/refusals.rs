//! Requests that are refused because of their records, and what becomes of those: each is counted.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::Instant,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    log::{Message, State},
    queue,
    writer::Writer,
    *,
};

/// A clock that stops the thread of the log, which asks it after each batch.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    /// Whether the thread waits.
    is_waiting: bool,
}

impl Gate {
    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }

    fn until_waiting(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| !state.is_waiting).unwrap());
    }
}

impl Clock for Gate {
    fn now(&self) -> Timestamp {
        if thread::current().name() == Some("okmsd-audit") {
            let mut state = self.state.lock().unwrap();
            state.is_waiting = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| !state.is_open).unwrap());
        }
        SystemClock.now()
    }
}

pub(super) fn until_ready(log: &AuditLog) {
    until("it is written again", || log.is_ready());
}

pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Options of a log that signs when it is told to, so that its thread does nothing by itself.
fn unsigned_options(folder: &Path) -> Options {
    Options { checkpoint_interval: Duration::from_secs(3_600), ..options(folder) }
}

/// The lines of a request, as text.
fn lines_of(folder: &Path, number: usize) -> Vec<String> {
    let text = fs::read_to_string(folder.join("server-1/000001/000001.jsonl")).unwrap();
    let id = format!("\"OKMS.{number}\"");
    text.lines().filter(|line| line.contains(&id)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_record_that_takes_too_long_and_one_without_room_are_refused_and_counted() {
    let folder = private_folder();
    let gate = Arc::new(Gate::default());
    let clock: Arc<dyn Clock> = Arc::<Gate>::clone(&gate);
    let options = Options { queue: 10, ..unsigned_options(folder.path()) };
    let log = AuditLog::start(&options, clock).unwrap();
    gate.until_waiting();
    assert_eq!(log.counts().refused, Refusals::default());

    tokio::time::pause();
    assert_eq!(log.record(record(3)).await, Err(NotRecorded));
    let refused = log.counts().refused;
    assert_eq!(refused, Refusals { timed_out: 1, ..Refusals::default() });

    let mut waiting = 0;
    while log.counts().lost == 0 {
        log.record_abandoned(record(4));
        waiting += 1;
    }
    // Ten had room: the record that took too long, the call that woke the thread for it, and eight others.
    assert_eq!(waiting, 9);
    assert_eq!(log.record(record(5)).await, Err(NotRecorded));
    assert!(!log.admits());
    let refused = log.counts().refused;
    assert_eq!(refused, Refusals { timed_out: 1, queue_full: 1, unavailable: 1 });
    assert_eq!((log.counts().lost, log.counts().late), (2, 0));

    tokio::time::resume();
    gate.open();
    until_ready(&log);
    log.record(record(6)).await.unwrap();
    log.close().await;
    let counts = log.counts();
    assert_eq!((counts.late, counts.lost, counts.refused), (1, 2, refused));
    let [late] = &lines_of(folder.path(), 3)[..] else { panic!("one line") };
    assert!(late.contains(r#""late":true"#), "{late}");
    assert_eq!(lines_of(folder.path(), 4).len(), waiting - 1);
    assert_eq!(lines_of(folder.path(), 5).len(), 0);
    // What is not there is told of by the log itself.
    let report = whole(folder.path());
    let told = report.notes.iter().filter(|note| note.contains("2 records found no room to wait"));
    assert_eq!(told.count(), 1, "{report:?}");
    let told = "requests were refused: 1 requests, while earlier ones waited for their records";
    assert_eq!(report.notes.iter().filter(|note| note.ends_with(told)).count(), 1, "{report:?}");
    assert_eq!((report.told.lost, report.told.interrupted), (1, 0));
}

#[test]
fn a_disk_that_does_not_answer_holds_back_neither_the_end_of_the_log_nor_that_of_the_process() {
    for full in [false, true] {
        let folder = private_folder();
        let gate = Arc::new(Gate::default());
        let clock: Arc<dyn Clock> = Arc::<Gate>::clone(&gate);
        let log = AuditLog::start(&unsigned_options(folder.path()), clock).unwrap();
        gate.until_waiting();
        while full && log.counts().lost == 0 {
            log.record_abandoned(record(1));
        }
        let (ended, end) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(log.close());
            // A process waits for its runtime before it ends.
            drop(runtime);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).expect("nothing waits for the disk");
        gate.open();
        until("the log ends", || !folder::is_locked(&folder.path().join("server-1")));
    }
}

#[tokio::test]
async fn a_record_is_written_also_when_its_request_goes_away_before_it_wakes_the_thread() {
    let folder = private_folder();
    let log = AuditLog::start(&unsigned_options(folder.path()), Arc::new(SystemClock)).unwrap();
    log.record(record(1)).await.unwrap();
    let mut recorded = Box::pin(log.record(record(2)));
    assert!(futures_util::future::poll_immediate(&mut recorded).await.is_none());
    drop(recorded);
    until("the record is there", || lines_of(folder.path(), 2).len() == 1);
    log.record_abandoned(record(3));
    until("the record is there", || lines_of(folder.path(), 3).len() == 1);
    log.close().await;
}

#[tokio::test]
async fn a_refusal_behind_the_back_of_an_idle_log_does_not_last() {
    let folder = private_folder();
    let log = AuditLog::start(&unsigned_options(folder.path()), Arc::new(SystemClock)).unwrap();
    log.record(record(1)).await.unwrap();
    // As where the thread has worked a full queue off before the sender gets to this.
    log.refuse_until_written();
    until_ready(&log);
    log.close().await;
}

#[test]
fn what_comes_behind_the_end_and_what_was_refused_is_told_all_the_same() {
    let folder = private_folder();
    let server = folder.path().join("server-1");
    fs::create_dir(&server).unwrap();
    make_private(&server);
    let options = unsigned_options(folder.path());
    let chain = Chain::open(&server, Ends::Stopped, Rotation::from(&options), SystemClock.now());
    let lock = folder::Lock::take(&server).unwrap().expect("the lock");
    let state = Arc::new(State::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let writer = Writer::new(chain.unwrap(), lock, &options, clock, Arc::clone(&state));
    let (queue, messages) = queue::queue(8);
    let message = |number| {
        let entry = Entry::Request(Box::new(record(number)));
        let pending = Pending::new(SystemClock.now(), &entry);
        Message::Record { pending, since: std::time::Instant::now(), change: true, reply: None }
    };
    for message in [message(1), Message::Close, message(2)] {
        assert_eq!(queue.send(message), Ok(()));
    }
    state.refused.store(3, std::sync::atomic::Ordering::Relaxed);
    writer.spawn(messages).unwrap().join().unwrap();
    for number in [1, 2] {
        assert_eq!(lines_of(folder.path(), number).len(), 1, "{number}");
    }
    let report = whole(folder.path());
    assert_eq!((report.unsigned, report.notes.len()), (0, 1), "{report:?}");
    assert!(report.notes[0].contains("refused: 3 requests"), "{report:?}");
    let lines = lines(&server.join("000001"));
    assert_eq!(lines[lines.len() - 2].what.as_deref(), Some("stopped"));
    assert_eq!(state.lost.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn requests_while_the_log_cannot_be_written_are_refused_and_counted() {
    let folder = private_folder();
    let options = unsigned_options(folder.path());
    let log = AuditLog::start(&options, Arc::new(SystemClock)).unwrap();
    log.record(record(1)).await.unwrap();
    let (chain, aside) = (folder.path().join("server-1/000001"), folder.path().join("aside"));
    // Not gone, not for an instant, but no folder: nobody can look into it, not even root.
    fs::write(&aside, "").unwrap();
    let swap = || renameat_with(CWD, &chain, CWD, &aside, RenameFlags::EXCHANGE).unwrap();
    swap();
    assert_eq!(log.record(record(2)).await, Err(NotRecorded));
    assert!(!log.admits() && !log.admits());
    let counts = log.counts();
    assert_eq!(counts.refused, Refusals { unavailable: 3, ..Refusals::default() });
    assert_eq!((counts.failed, counts.late, counts.lost), (1, 0, 0));

    swap();
    until_ready(&log);
    assert!(log.admits());
    log.close().await;
    assert_eq!((log.counts().late, log.counts().lost), (1, 0));
    assert!(lines_of(folder.path(), 2)[0].contains(r#""late":true"#));
    let report = whole(folder.path());
    assert!(report.notes[0].contains("refused 2 requests, kept 1 records, lost 0"), "{report:?}");
}
