//! Storage that fails below a server on SQLite while 32 writers write: they are told of an outage while it lasts and
//! of nothing that is not so, and it ends without a restart.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::{
    audit_trail::AuditTrail, disk::Disk, random::Random, site::Site, tools::at_hand,
    writers::Writers,
};

/// A server on a disk that can fail.
struct Trial {
    site: Site,
    disk: Disk,
    writers: Writers,
    trail: AuditTrail,
    random: Random,
}

impl Trial {
    fn start() -> Self {
        let mut site = Site::init(None);
        site.make_domain();
        let disk = Disk::below(&mut site);
        site.start();
        let (writers, random) = (Writers::new(WRITERS, SEED), Random::new(SEED));
        Self { site, disk, writers, trail: AuditTrail::default(), random }
    }

    /// Has writers meet a fault for a time, and holds what they were told against what is there: at once, after a
    /// kill, or after a power cut, which may come when another server has gone on.
    async fn survive(&mut self, fault: Fault, end: End) {
        let (disk, before, progress) = (&self.disk, self.writers.counts, self.writers.progress());
        let Fault { call, name, error, times, .. } = fault;
        let fail = async |site: &mut Site| {
            progress.made(SOME).await;
            disk.fail(call, name, error.map_or(1, Errno::raw_os_error), times);
            disk.until_hit().await;
            if let End::KillAndPowerCut = end {
                site.kill();
                disk.mend();
                return;
            }
            tokio::time::sleep(MOMENT).await;
            disk.mend();
            // By itself.
            site.until_ready();
            progress.made(SOME).await;
            if !matches!(end, End::Mended) {
                site.kill();
            }
        };
        self.writers.write(&mut self.site, fail).await;
        if let End::KillAndPowerCut = end {
            self.site.start();
            let kill = async |site: &mut Site| {
                progress.made(SOME).await;
                site.kill();
            };
            self.writers.write(&mut self.site, kill).await;
        }
        if let End::PowerCut | End::KillAndPowerCut = end {
            self.disk.cut_power(&self.site, &mut self.random);
            // Records of reads may be gone, and others come in their place: it is read anew.
            self.trail = AuditTrail::default();
            self.writers.forget_reads();
        }
        if !matches!(end, End::Mended) {
            self.site.start();
        }
        let after = format!("{fault:?}, {end:?}");
        self.trail.check(&mut self.writers, &self.site, &after).await;
        let after = self.writers.counts;
        // Each that is under way when the server ends is told nothing, too.
        if let End::Mended = end {
            let unknown = after.unknown - before.unknown;
            if let Some(is_noticed) = fault.is_noticed {
                assert_eq!(unknown > 0, is_noticed, "{fault:?}: {unknown}");
            }
        }
    }
}

/// What fails, and whether writers are told.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    name: &'static str,
    error: Option<Errno>,
    times: i32,
    /// None where it may hit something that nobody waits for, such as a checkpoint.
    is_noticed: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Mended,
    Kill,
    PowerCut,
    KillAndPowerCut,
}

const fn fault(call: &'static str, name: &'static str, error: Errno, times: i32) -> Fault {
    Fault { call, name, error: Some(error), times, is_noticed: Some(true) }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_a_disk_loses_what_was_acknowledged() {
    if !at_hand(&["cc"]) {
        return;
    }
    let mut trial = Trial::start();
    let unnoticed = |fault| Fault { is_noticed: Some(false), ..fault };
    let once = |name| Fault { is_noticed: None, ..fault("sync", name, Errno::IO, 1) };
    for fault in [
        // No space: for the log of the database, for its pages, for records.
        fault("write", "okmsd.db-wal", Errno::NOSPC, -1),
        unnoticed(fault("write", "okmsd.db", Errno::NOSPC, -1)),
        fault("write", ".jsonl", Errno::NOSPC, -1),
        // What was written since the last sync is not on the disk, and no later one brings it there.
        once("okmsd.db-wal"),
        unnoticed(fault("sync", "okmsd.db", Errno::IO, 1)),
        once(".jsonl"),
        fault("sync", ".jsonl", Errno::IO, -1),
        fault("sync", "okmsd.db-wal", Errno::IO, -1),
        // A disk that takes less than it was given.
        unnoticed(Fault { error: None, ..fault("short", "*", Errno::IO, -1) }),
        // Mounted read-only, as a file system does by itself on errors.
        fault("any", "*", Errno::ROFS, -1),
    ] {
        for end in [End::Mended, End::Kill, End::PowerCut, End::PowerCut, End::KillAndPowerCut] {
            trial.survive(fault, end).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_process_has_locked_is_a_503_until_it_is_free() {
    let mut site = Site::init(None);
    site.make_domain();
    site.start();
    let client = site.client();
    let secrets = site.v2("secret");
    let body = |path: &str| format!(r#"{{"path":"{path}","version":{{"data":{{}}}}}}"#);
    client.post(&secrets, body("before")).await.ok();
    let mut other =
        SqliteConnectOptions::new().filename(site.data("okmsd.db")).connect().await.expect("it");
    other.execute("BEGIN EXCLUSIVE").await.expect("the lock");
    let begun = Instant::now();
    let (write, read) = tokio::join!(client.post(&secrets, body("meanwhile")), async {
        // Those who read need no lock.
        client.get(&format!("{secrets}/before?includeData=true")).await
    });
    read.ok();
    write.error(503, UNAVAILABLE);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    other.execute("ROLLBACK").await.expect("to give it back");
    other.close().await.expect("to close");
    client.get(&format!("{secrets}/meanwhile")).await.error(404, NOT_FOUND);
    client.post(&secrets, body("meanwhile")).await.ok();
    site.succeed(&["audit", "verify"]);
}

const WRITERS: usize = 32;
/// The faults are what matters, not the requests.
const SEED: u64 = 20_261_128;
/// Requests that succeed before a fault, and after it.
const SOME: u64 = 60;
/// How long a fault lasts from when it was first met.
const MOMENT: Duration = Duration::from_millis(200);
const UNAVAILABLE: i64 = 50_425_858;
const NOT_FOUND: i64 = 17_125_377;
