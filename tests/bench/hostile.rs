//! What healthy clients notice of hostile ones: times of reads at a fixed rate, alone and while each attack goes on.
//!
//! The attacks run in the process that measures, on the same machine: what they take of its time themselves is a part
//! of what is seen.

#[path = "../support/attacks.rs"]
mod attacks;
mod support;

use std::sync::Arc;

use attacks::Attack;
use support::{
    Options, Report, client,
    http::{Ask, Protocol, Question},
    load::{self, Measured, Pace},
    okmsd::{Okmsd, path},
    report::Target,
};

fn main() {
    support::main("hostile", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(10_000, 100);
    let okmsd = Okmsd::start();
    okmsd.fill(secrets).await;
    let base = okmsd.v2("secret");
    let victim = attacks::Target {
        address: okmsd.target().address,
        stranger: okmsd.stranger(),
        caller: okmsd.target().tls,
        secret: format!("{base}/{}", path(0)),
        connected: Arc::default(),
    };
    let ask: Ask = Arc::new(move |random| {
        Question::get(format!("{base}/{}?includeData=true", path(random.below(secrets))))
    });
    let pace = Pace::Rate(RATE);
    let measure = async || -> Measured {
        let workers = okmsd.target().workers(Protocol::Http1 { connections: 16 }, &ask).await;
        load::run(workers, pace, options.warm_up, options.time, Some(okmsd.process())).await
    };
    for attack in Attack::ALL {
        let case = format!("{attack:?}");
        if !options.wants(&case) {
            continue;
        }
        let mut ratios = Vec::new();
        for _ in 0..options.rounds {
            let alone = measure().await;
            let waves = tokio::spawn({
                let victim = victim.clone();
                async move {
                    loop {
                        attack.wave(&victim).await;
                    }
                }
            });
            let attacked = measure().await;
            assert!(!waves.is_finished(), "the attack went on all the time");
            waves.abort();
            let p99 = |measured: &Measured| measured.times.value_at_quantile(0.99) as f64;
            ratios.push(p99(&attacked) / p99(&alone));
            report.add(&case, "alone", pace, alone);
            report.add(&case, "attacked", pace, attacked);
        }
        report.print(&case);
        ratios.sort_unstable_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        report.number(&case, "okmsd", "p99, of that alone", median, Target::AtMost(2.0));
    }
}

/// Reads a second: what a busy service asks, and a small part of what a machine can do.
const RATE: f64 = 1_000.0;
