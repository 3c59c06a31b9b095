//! What it costs to hold more: stores of three sizes, and a secret of as many versions as there can be, measured
//! in turns; and memory, size on the disk and time to start of each.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    Options, Report, client,
    compare::{FLOOR, HttpSubject, OKMSD, Subject, compare},
    http::{Ask, Protocol, Question},
    okmsd::{DATABASE, Okmsd, new_version, path},
    process,
    report::{Quantity, Target},
};

fn main() {
    support::main("scale", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let mut stores = Vec::new();
    for size in options.choose([1_000, 100_000, 1_000_000], [600, 700, 1_000]) {
        stores.push(Store::fill(size, report).await);
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

const CASES: [(&str, usize, CaseAsk); 4] = [
    (READ, 32, |store| store.read("&version=1")),
    (WRITE, 64, |store| store.write()),
    (FIRST, 4, |store| store.page(None)),
    (LAST, 4, |store| store.page(store.last.clone())),
];

/// A server with so many secrets.
struct Store {
    name: String,
    size: u64,
    okmsd: Okmsd,
    /// The cursor of a page near the end.
    last: Option<String>,
    idle: f64,
}

impl Store {
    async fn fill(size: u64, report: &mut Report) -> Self {
        let name = size.to_string();
        let mut okmsd = Okmsd::start();
        let started = std::time::Instant::now();
        okmsd.fill(size).await;
        let rate = size as f64 / started.elapsed().as_secs_f64();
        report.fact("filling", &name, "secrets", rate, "per s");
        // From the beginning, as after an update of the program.
        okmsd.restart();
        report.fact("start", &name, "took", okmsd.started_in.as_secs_f64(), "s");
        tokio::time::sleep(SETTLING).await;
        let idle = process::memory(okmsd.process()) as f64 / MIB;
        report.fact(MEMORY, &name, "idle", idle, "MiB");
        let on_disk = process::database_size(&okmsd.file(DATABASE)) as f64 / MIB;
        report.fact("database", &name, "on the disk", on_disk, "MiB");
        let last = last_page(&okmsd).await;
        Self { name, size, okmsd, last, idle }
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

    fn page(&self, cursor: Option<String>) -> Ask {
        page(self.okmsd.v2("secret"), cursor)
    }
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

/// The cursor of the last of pages of 500.
async fn last_page(okmsd: &Okmsd) -> Option<String> {
    let client = okmsd.client();
    let (list, mut cursor) = (okmsd.v2("secret"), None::<String>);
    loop {
        let mut headers = vec![(SIZE, "500")];
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
    report.number(MEMORY, large, "idle, in MiB", largest.idle, Target::AtMost(30.0));
    let busy = process::memory(largest.okmsd.process()) as f64 / MIB;
    report.number(MEMORY, large, "after the load, in MiB", busy, Target::AtMost(150.0));
    let started = largest.okmsd.started_in.as_secs_f64();
    report.number("start", large, "took, in s", started, Target::AtMost(0.3));
}

/// A secret of as many versions as one can have, beside one of two.
async fn versions(options: &Options, report: &mut Report) {
    let okmsd = Okmsd::start();
    let counts = [2, options.choose(24_000, 300)];
    for count in counts {
        okmsd.fill_versions(&format!("versions/{count}"), count).await;
    }
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
}

/// By the number of the version, which no row in memory answers: a small store would fit there, a large one not.
const READ: &str = "read of a version, uniform";
const WRITE: &str = "write, uniform";
const FIRST: &str = "first page of 100";
const LAST: &str = "last page of 100";
const MEMORY: &str = "memory";

const SIZE: &str = "x-pagination-size";
const CURSOR: &str = "x-pagination-cursor";
const NEXT: &str = "x-pagination-cursor-next";

const MIB: f64 = 1024.0 * 1024.0;
/// For a server to do what it does after its start.
const SETTLING: Duration = Duration::from_secs(2);
