//! The server is killed at random moments under 32 writers, and after each start all that they were told is held
//! against what is there.
//!
//! `OKMSD_CRASHES` says how often it is killed on SQLite; a quarter of that on PostgreSQL, where at times all of
//! PostgreSQL is killed instead. `OKMSD_CRASH_SEED` has the same writes asked for, and the same moments chosen; what
//! the processes make of it is different all the same.

use std::{
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    audit_trail::AuditTrail,
    cluster::Cluster,
    postgres::{find_binaries, postgres_is_at_hand},
    random::Random,
    site::Site,
    writers::{Counts, Reader, Writers},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_sqlite() {
    survive("SQLite", kills(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_postgres() {
    if postgres_is_at_hand() {
        let binaries = find_binaries().expect("`initdb` and `postgres`, to kill them");
        survive("PostgreSQL", kills().div_ceil(4), Some(binaries)).await;
    }
}

/// What came of it all.
#[derive(Default)]
struct Record {
    kills: usize,
    kills_of_postgres: usize,
    starts: Vec<Duration>,
    counts: Counts,
}

async fn survive(engine: &str, kills: usize, binaries: Option<PathBuf>) {
    let seed = number("OKMSD_CRASH_SEED").unwrap_or_else(|| {
        // The only thing at hand that differs each time.
        uuid::Uuid::new_v4().as_u64_pair().0
    });
    say(&format!("{engine}: OKMSD_CRASH_SEED={seed}"));
    let (begun, mut random, mut record) = (Instant::now(), Random::new(seed), Record::default());
    while record.kills < kills {
        let kills = KILLS_OF_A_SITE.min(kills - record.kills);
        let mut cluster = match &binaries {
            Some(binaries) => Some(Cluster::start(binaries.clone()).await),
            None => None,
        };
        live(&mut random, kills, cluster.as_mut(), &mut record).await;
    }
    record.starts.sort_unstable();
    let Record { kills, kills_of_postgres, starts, counts } = record;
    let (median, longest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    say(&format!(
        "{engine}: {kills} kills{} in {:.0?}; {counts:?}; ready after {median:.0?}, {longest:.0?} at most",
        match kills_of_postgres {
            0 => String::new(),
            kills => format!(", {kills} of PostgreSQL"),
        },
        begun.elapsed(),
    ));
    assert!(longest < START, "a start took {longest:?}");
    // Else it proves nothing.
    assert!(
        counts.done > 10 * kills && counts.refused > kills && counts.unknown > kills,
        "{counts:?}"
    );
}

/// A server from its first start on, killed that often.
async fn live(
    random: &mut Random,
    kills: usize,
    mut cluster: Option<&mut Cluster>,
    record: &mut Record,
) {
    let mut site = Site::init(cluster.as_ref().map(|cluster| cluster.url()));
    let mut writers = Writers::new(WRITERS, random.below(u64::MAX));
    let mut trail = AuditTrail::default();
    let mut left = kills;
    // While it makes its store.
    for _ in 0..EARLY_KILLS {
        kill_early(&mut site, random, 150).await;
    }
    settle(cluster.as_deref()).await;
    record.starts.push(site.start());
    site.make_domain();
    loop {
        trail.check(&mut writers, &site, "a kill").await;
        if left == 0 {
            break;
        }
        // At times at once; else by what they have done, since the machine may be slow.
        let (some, delay) = match random.below(4) {
            0 => (0, Duration::from_millis(random.below(100))),
            _ => (1 + random.below(150), Duration::from_micros(random.below(20_000))),
        };
        let progress = writers.progress();
        if let Some(cluster) = &mut cluster
            && random.below(6) == 0
        {
            // The server goes on, and recovers by itself.
            let outage = Duration::from_millis(random.below(400));
            let cut = async |_: &mut Site| {
                progress.made(some).await;
                tokio::time::sleep(delay).await;
                cluster.kill();
                tokio::time::sleep(outage).await;
                cluster.restart().await;
            };
            writers.write(&mut site, cut).await;
            site.until_ready();
            record.kills_of_postgres += 1;
            continue;
        }
        let kill = async |site: &mut Site| {
            progress.made(some).await;
            tokio::time::sleep(delay).await;
            site.kill();
        };
        writers.write(&mut site, kill).await;
        left -= 1;
        if random.below(6) == 0 {
            // While it recovers.
            kill_early(&mut site, random, 300).await;
        }
        settle(cluster.as_deref()).await;
        record.starts.push(site.start());
    }
    let (reader, all) = (Reader::new(&site), 0);
    let violations = writers.judge_shared(&reader, all).await;
    assert!(violations.is_empty(), "{violations:#?}");
    record.kills += kills;
    record.counts.done += writers.counts.done;
    record.counts.refused += writers.counts.refused;
    record.counts.unknown += writers.counts.unknown;
}

/// Starts the server, and kills it before it is ready.
async fn kill_early(site: &mut Site, random: &mut Random, within: u64) {
    site.spawn();
    tokio::time::sleep(Duration::from_millis(random.below(within))).await;
    site.kill();
}

async fn settle(cluster: Option<&Cluster>) {
    if let Some(cluster) = cluster {
        cluster.settle().await;
    }
}

/// More aloud than the macros of the standard library, which are captured.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("to write");
}

fn kills() -> usize {
    number("OKMSD_CRASHES").map_or(20, |kills| kills as usize)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

const WRITERS: usize = 32;
/// What a server may take from its start until it is ready, whatever it finds: the issue's own bound, far from what
/// it takes.
const START: Duration = Duration::from_secs(5);
/// After these the next one begins from nothing: what is to be read and verified grows with each.
const KILLS_OF_A_SITE: usize = 25;
const EARLY_KILLS: usize = 2;
