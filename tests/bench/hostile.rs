//! What healthy clients notice of hostile ones: times of reads at a fixed rate, alone, while each attack goes on, and
//! while it goes on against another server of the same kind on the same machine. What they notice of that one is what
//! attackers and their victim take of the machine, and not that they ask the victim themselves.
//!
//! All are of this machine, and would be elsewhere: attackers are threads that run where no other wants to, and
//! healthy clients come before the server, so that they wait for what it does and not for a core. What the server takes
//! for attackers is seen.

#[path = "../support/attacks.rs"]
mod attacks;
mod support;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use attacks::{Attack, raise_open_files};
use support::{
    Options, Report, client,
    http::{Ask, Protocol, Question},
    load::{self, Measured, Pace},
    okmsd::{Okmsd, Rates, path},
    report::Target,
};
use tokio::runtime;

fn main() {
    support::main("hostile", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(10_000, 100);
    let idle = options.choose(5_000, 20);
    raise_open_files();
    // A process begins with the priority of the thread that starts it.
    let start = || {
        of_this_thread("renice", &["-n", "10", "-p"]);
        Okmsd::start_with(&[], Rates::Default)
    };
    let okmsd = thread::spawn(start).join().expect("a server");
    okmsd.fill(secrets).await;
    let elsewhere = thread::spawn(start).join().expect("a server");
    elsewhere.fill(1).await;
    let base = okmsd.v2("secret");
    let (victim, other_victim) = (victim(&okmsd), victim(&elsewhere));
    let ask: Ask = Arc::new(move |random| {
        Question::get(format!("{base}/{}?includeData=true", path(random.below(secrets))))
    });
    let attackers = runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(give_way)
        .build()
        .expect("a runtime");
    let pace = Pace::Rate(RATE);
    let measure = async || -> Measured {
        let workers = okmsd.target().workers(Protocol::Http1 { connections: 16 }, &ask).await;
        load::run(workers, pace, options.warm_up, options.time, Some(okmsd.process())).await
    };
    let beside = async |attack: Option<Attack>, victim: &attacks::Target| {
        let begun = Arc::new(AtomicBool::new(false));
        let waves = attackers.spawn({
            let (victim, has_begun) = (victim.clone(), Arc::clone(&begun));
            async move {
                // All of these are there before anything is measured.
                let _idle = match attack {
                    None => connect_idle(&victim, idle).await,
                    Some(_) => Vec::new(),
                };
                has_begun.store(true, Ordering::Relaxed);
                match attack {
                    None => std::future::pending::<()>().await,
                    Some(attack) => loop {
                        attack.wave(&victim).await;
                    },
                }
            }
        });
        while !begun.load(Ordering::Relaxed) && !waves.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let measured = measure().await;
        assert!(!waves.is_finished(), "the attack went on all the time");
        waves.abort();
        measured
    };
    let attacks = Attack::ALL.into_iter().map(Some);
    for attack in attacks.chain([None]) {
        let case = attack.map_or("Idle".to_owned(), |attack| format!("{attack:?}"));
        if !options.wants(&case) {
            continue;
        }
        let (mut of_alone, mut of_elsewhere) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let alone = measure().await;
            let attacked = beside(attack, &victim).await;
            let attacked_elsewhere = beside(attack, &other_victim).await;
            let p99 = |measured: &Measured| measured.times.value_at_quantile(0.99) as f64;
            of_alone.push(p99(&attacked) / p99(&alone));
            of_elsewhere.push(p99(&attacked) / p99(&attacked_elsewhere));
            report.add(&case, "alone", pace, alone);
            report.add(&case, "attacked", pace, attacked);
            report.add(&case, "elsewhere", pace, attacked_elsewhere);
        }
        report.print(&case);
        let connected = victim.connected.swap(0, Ordering::Relaxed) as f64;
        report.fact(&case, "attackers", "connections over TLS", connected, "");
        let median = |ratios: &mut Vec<f64>| {
            ratios.sort_unstable_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        };
        let of_alone = median(&mut of_alone);
        report.number(&case, "okmsd", "p99, of that alone", of_alone, Target::AtMost(2.0));
        let what = "p99, of that while another server is attacked";
        report.fact(&case, "okmsd", what, median(&mut of_elsewhere), "");
    }
    attackers.shutdown_background();
}

/// Such a server as attackers see it.
fn victim(okmsd: &Okmsd) -> attacks::Target {
    attacks::Target {
        address: okmsd.target().address,
        stranger: okmsd.stranger(),
        caller: okmsd.target().tls,
        secret: format!("{}/{}", okmsd.v2("secret"), path(0)),
        connected: Arc::default(),
    }
}

/// Reads a second: what a busy service asks, and a small part of what a machine can do.
const RATE: f64 = 1_000.0;

/// Connections that say nothing, of ten addresses.
async fn connect_idle(victim: &attacks::Target, count: usize) -> Vec<impl Sized + use<>> {
    let mut idle = Vec::with_capacity(count);
    for last in (3..13).cycle().take(count) {
        let connection = victim.connect_from(last, &victim.caller, "h2").await;
        idle.push(connection.expect("a connection"));
    }
    idle
}

/// From now on, this thread runs where no other wants to.
fn give_way() {
    of_this_thread("chrt", &["--idle", "--pid", "0"]);
}

/// Runs a tool of util-linux on this thread.
fn of_this_thread(tool: &str, arguments: &[&str]) {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let output = Command::new(tool).args(arguments).arg(thread).output().expect(tool);
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
}
