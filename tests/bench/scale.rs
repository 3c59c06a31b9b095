//! What it costs to hold more: stores of three sizes, and a secret of as many versions as there can be, measured
//! in turns; and memory, size on the disk and time to start of each.

mod support;

use std::{fs, sync::Arc, time::Duration};

use support::{
    Options, Report, client,
    compare::{FLOOR, HttpSubject, OKMSD, Subject, compare},
    http::{Ask, Protocol, Question},
    okmsd::{DATABASE, Okmsd, mixed, new_version, path},
    process,
    report::{Quantity, Target},
};

fn main() {
    support::main("scale", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    empty(report).await;
    let mut stores = Vec::new();
    for size in options.choose([1_000, 100_000, 1_000_000], [600, 700, 1_000]) {
        stores.push(Store::fill(size, options, report).await);
    }
    for (case, connections, ask) in CASES {
        if options.wants(case) {
            let asks = stores.iter().map(|store| (store.name.clone(), &store.okmsd, ask(store)));
            measure(case, connections, asks.collect(), options, report).await;
        }
    }
    floor(&stores, options, report).await;
    for store in &stores {
        // Of all that was asked here.
        let busy = process::memory(store.okmsd.process()) as f64 / MIB;
        report.fact(MEMORY, &store.name, "after the load", busy, "MiB");
    }
    judge(&stores, report);
    drop(stores);
    versions(options, report).await;
}

/// Makes what is asked of a store.
type CaseAsk = fn(&Store) -> Ask;

const CASES: [(&str, usize, CaseAsk); 6] = [
    (READ, 32, |store| store.read("&version=1")),
    (FIRST, 4, |store| store.page(None)),
    (LAST, 4, |store| store.page(store.last.clone())),
    // After the pages, of which the smallest store would have more versions to leave out.
    (WRITE, 64, |store| store.write()),
    (KV2_WRITE, 64, |store| store.kv2_write()),
    (MIXED, 32, |store| mixed(store.okmsd.v2("secret"), store.size)),
];

/// A server with so many secrets.
struct Store {
    name: String,
    size: u64,
    okmsd: Okmsd,
    /// The cursor of the last page.
    last: Option<String>,
    /// How long a start took until its first answer, in seconds.
    started_in: f64,
}

impl Store {
    async fn fill(size: u64, options: &Options, report: &mut Report) -> Self {
        let name = size.to_string();
        let mut okmsd = Okmsd::start();
        let started = std::time::Instant::now();
        okmsd.fill(size).await;
        let rate = size as f64 / started.elapsed().as_secs_f64();
        report.fact("filling", &name, "secrets", rate, "per s");
        let started_in = tell(&name, &mut okmsd, options, report).await;
        let last = last_page(&okmsd).await;
        Self { name, size, okmsd, last, started_in }
    }

    fn read(&self, more: &'static str) -> Ask {
        let (base, size) = (self.okmsd.v2("secret"), self.size);
        Arc::new(move |random| {
            let path = path(random.below(size));
            Question::get(format!("{base}/{path}?includeData=true{more}"))
        })
    }

    fn write(&self) -> Ask {
        let (base, size) = (self.okmsd.v2("secret"), self.size);
        Arc::new(move |random| {
            let path = path(random.below(size));
            Question::post(format!("{base}/{path}/version"), new_version())
        })
    }

    fn kv2_write(&self) -> Ask {
        let (base, size) = (self.okmsd.v1("data"), self.size);
        Arc::new(move |random| {
            Question::post(format!("{base}/{}", path(random.below(size))), new_version())
        })
    }

    fn page(&self, cursor: Option<String>) -> Ask {
        page(self.okmsd.v2("secret"), cursor)
    }
}

/// What a start takes, from the beginning, as after an update of the program; memory after it, and the disk.
async fn tell(name: &str, okmsd: &mut Okmsd, options: &Options, report: &mut Report) -> f64 {
    let mut starts = Vec::new();
    for _ in 0..options.rounds {
        starts.push(okmsd.answers_in().await.as_secs_f64());
    }
    starts.sort_unstable_by(f64::total_cmp);
    let started_in = starts[starts.len() / 2];
    report.fact(START, name, "first answer after", started_in, "s");
    tokio::time::sleep(SETTLING).await;
    let idle = process::memory(okmsd.process()) as f64 / MIB;
    report.fact(MEMORY, name, "idle", idle, "MiB");
    let on_disk = process::database_size(&okmsd.file(DATABASE)) as f64 / MIB;
    report.fact("database", name, "on the disk", on_disk, "MiB");
    started_in
}

/// A store without a secret, of which nobody asks anything.
async fn empty(report: &mut Report) {
    let mut okmsd = Okmsd::start();
    // The one that has made policies and a user has had more to do.
    okmsd.restart();
    tokio::time::sleep(SETTLING).await;
    let idle = process::memory(okmsd.process()) as f64 / MIB;
    report.number(MEMORY, "0", "idle, in MiB", idle, Target::AtMost(30.0));
    let program = fs::metadata(env!("CARGO_BIN_EXE_okmsd")).expect("the program").len();
    report.number("program", OKMSD, "in MiB", program as f64 / MIB, Target::AtMost(30.0));
}

/// A page of 100 from that cursor.
fn page(list: String, cursor: Option<String>) -> Ask {
    Arc::new(move |_| {
        let question = Question::get(list.clone()).with(SIZE, "100");
        match &cursor {
            Some(cursor) => question.with(CURSOR, cursor.clone()),
            None => question,
        }
    })
}

/// The cursor of the last page of 100.
async fn last_page(okmsd: &Okmsd) -> Option<String> {
    let client = okmsd.client();
    let (list, mut cursor) = (okmsd.v2("secret"), None::<String>);
    loop {
        let mut headers = vec![(SIZE, "100")];
        headers.extend(cursor.as_deref().map(|cursor| (CURSOR, cursor)));
        let answer = client.page(&list, &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        match answer.header(NEXT) {
            Some(next) => cursor = Some(next.to_owned()),
            None => return cursor,
        }
    }
}

async fn measure(
    case: &str,
    connections: usize,
    asks: Vec<(String, &Okmsd, Ask)>,
    options: &Options,
    report: &mut Report,
) {
    let subject = |(name, okmsd, ask): (String, &Okmsd, Ask)| {
        Box::new(HttpSubject {
            name,
            process: okmsd.process(),
            target: okmsd.target(),
            protocol: Protocol::Http1 { connections },
            ask,
        }) as Box<dyn Subject>
    };
    let mut subjects: Vec<_> = asks.into_iter().map(subject).collect();
    compare(case, &mut subjects, options, report).await;
}

/// The largest store against the floor.
async fn floor(stores: &[Store], options: &Options, report: &mut Report) {
    let case = "read, against the floor";
    let Some(largest) = stores.last().filter(|_| options.wants(case)) else { return };
    support::compare::against_floor(
        case,
        &largest.okmsd,
        Protocol::Http1 { connections: 32 },
        largest.read(""),
        options,
        report,
    )
    .await;
    report.ratio((case, OKMSD), (case, FLOOR), Quantity::Rate, Target::AtLeast(0.35));
}

fn judge(stores: &[Store], report: &mut Report) {
    let [smallest, .., largest] = stores else { return };
    let (small, large) = (smallest.name.as_str(), largest.name.as_str());
    report.ratio((READ, large), (READ, small), Quantity::Rate, Target::AtLeast(0.8));
    for case in [FIRST, LAST] {
        report.ratio((case, large), (case, small), Quantity::P50, Target::AtMost(1.3));
    }
    let busy = process::memory(largest.okmsd.process()) as f64 / MIB;
    report.number(MEMORY, large, "after the load, in MiB", busy, Target::AtMost(150.0));
    let what = "first answer after, in s";
    report.number(START, large, what, largest.started_in, Target::AtMost(0.3));
}

/// A secret of as many versions as one can have, beside one of two.
async fn versions(options: &Options, report: &mut Report) {
    let mut okmsd = Okmsd::start();
    let counts = [2, options.choose(24_000, 300)];
    for count in counts {
        okmsd.fill_versions(&format!("versions/{count}"), count).await;
    }
    let name = format!("{} versions", counts[1]);
    tell(&name, &mut okmsd, options, report).await;
    let asks = |ask: &dyn Fn(String) -> Ask| {
        let subject = |count: &u64| {
            let path = okmsd.v2(&format!("secret/versions/{count}"));
            (format!("{count} versions"), &okmsd, ask(path))
        };
        counts.iter().map(subject).collect::<Vec<_>>()
    };
    let read = |path: String| -> Ask {
        Arc::new(move |_| Question::get(format!("{path}?includeData=true")))
    };
    let list = |path: String| page(format!("{path}/version"), None);
    for (case, connections, asks) in
        [("read of versions", 32, asks(&read)), ("page of versions", 4, asks(&list))]
    {
        if options.wants(case) {
            measure(case, connections, asks, options, report).await;
        }
    }
    let busy = process::memory(okmsd.process()) as f64 / MIB;
    report.fact(MEMORY, &name, "after the load", busy, "MiB");
}

/// By the number of the version, which no row in memory answers: a small store would fit there, a large one not.
const READ: &str = "read of a version, uniform";
const WRITE: &str = "write, uniform";
const KV2_WRITE: &str = "v1 write, uniform";
const MIXED: &str = "mixed, uniform";
const START: &str = "start";
const FIRST: &str = "first page of 100";
const LAST: &str = "last page of 100";
const MEMORY: &str = "memory";

const SIZE: &str = "x-pagination-size";
const CURSOR: &str = "x-pagination-cursor";
const NEXT: &str = "x-pagination-cursor-next";

const MIB: f64 = 1024.0 * 1024.0;
/// For a server to do what it does after its start.
const SETTLING: Duration = Duration::from_secs(2);
