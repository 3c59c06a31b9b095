//! Requests that are refused because of their records, and what becomes of those: each is counted.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::Instant,
};

use super::*;

/// A clock that stops the thread of the log, which asks it after each batch.
#[derive(Debug, Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.opened.notify_all();
    }
}

impl Clock for Gate {
    fn now(&self) -> Timestamp {
        if thread::current().name() == Some("okmsd-audit") {
            let is_closed = self.is_closed.lock().unwrap();
            drop(self.opened.wait_while(is_closed, |is_closed| *is_closed).unwrap());
        }
        SystemClock.now()
    }
}

fn until_ready(log: &AuditLog) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !log.is_ready() {
        assert!(Instant::now() < deadline, "it is written again");
        thread::sleep(Duration::from_millis(5));
    }
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
    let log = AuditLog::start(&options(folder.path()), clock).unwrap();
    log.record(record(1)).await.unwrap();
    gate.set(true);
    // The last one that the thread writes before it asks the clock.
    log.record(record(2)).await.unwrap();
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
    assert_eq!(log.record(record(5)).await, Err(NotRecorded));
    assert!(!log.admits());
    let refused = log.counts().refused;
    assert_eq!(refused, Refusals { timed_out: 1, queue_full: 1, unavailable: 1 });
    assert_eq!((log.counts().lost, log.counts().late), (2, 0));

    tokio::time::resume();
    gate.set(false);
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
}

#[tokio::test]
async fn requests_while_the_log_cannot_be_written_are_refused_and_counted() {
    let folder = private_folder();
    let log = AuditLog::start(&options(folder.path()), Arc::new(SystemClock)).unwrap();
    log.record(record(1)).await.unwrap();
    let (chain, aside) = (folder.path().join("server-1/000001"), folder.path().join("aside"));
    fs::rename(&chain, &aside).unwrap();
    // Not gone, but no folder: nobody can look into it, not even root.
    fs::write(&chain, "").unwrap();
    assert_eq!(log.record(record(2)).await, Err(NotRecorded));
    assert!(!log.admits() && !log.admits());
    let counts = log.counts();
    assert_eq!(counts.refused, Refusals { unavailable: 3, ..Refusals::default() });
    assert_eq!((counts.failed, counts.late, counts.lost), (1, 0, 0));

    fs::remove_file(&chain).unwrap();
    fs::rename(&aside, &chain).unwrap();
    until_ready(&log);
    assert!(log.admits());
    log.close().await;
    assert_eq!((log.counts().late, log.counts().lost), (1, 0));
    assert!(lines_of(folder.path(), 2)[0].contains(r#""late":true"#));
    let report = whole(folder.path());
    assert!(report.notes[0].contains("refused 2 requests, kept 1 records, lost 0"), "{report:?}");
}
