//! Reads of a secret with its data: a hot one and uniformly over all, by both API sets, over HTTP/1.1 and
//! HTTP/2, against the floor: the same listener, TLS and HTTP that answer the same bytes each time.

mod support;

use std::sync::Arc;

use support::{
    Options, Report, client,
    compare::{FLOOR, OKMSD, against_floor},
    http::{Ask, Protocol, Question},
    okmsd::{Okmsd, path},
    report::{Quantity, Target},
};

fn main() {
    support::main("read", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(100_000, 200);
    let okmsd = Okmsd::start();
    okmsd.fill(secrets).await;
    let v2 = |bound: u64| {
        let base = okmsd.v2("secret");
        let ask: Ask = Arc::new(move |random| {
            let path = path(random.below(bound));
            Question::get(format!("{base}/{path}?includeData=true"))
        });
        ask
    };
    let v1 = |bound: u64| {
        let base = okmsd.v1("data");
        let ask: Ask =
            Arc::new(move |random| Question::get(format!("{base}/{}", path(random.below(bound)))));
        ask
    };
    let cases = [
        ("v2 hot, HTTP/1.1, 32", v2(1), HTTP1, 0.75),
        ("v2 uniform, HTTP/1.1, 32", v2(secrets), HTTP1, UNIFORM),
        ("v1 hot, HTTP/1.1, 32", v1(1), HTTP1, 0.75),
        ("v1 uniform, HTTP/1.1, 32", v1(secrets), HTTP1, UNIFORM),
        ("v2 hot, HTTP/2, 4 x 16", v2(1), HTTP2, 0.65),
        ("v1 hot, HTTP/2, 4 x 16", v1(1), HTTP2, 0.65),
        ("v2 uniform, HTTP/2, 4 x 16", v2(secrets), HTTP2, UNIFORM),
    ];
    for (case, ask, protocol, least) in cases {
        against_floor(case, &okmsd, protocol, ask, options, report).await;
        let (ours, floor) = ((case, OKMSD), (case, FLOOR));
        report.ratio(ours, floor, Quantity::Rate, Target::AtLeast(least));
        report.ratio(ours, floor, Quantity::P99, Target::AtMost(1.5));
    }
}

/// What is asked of a million secrets.
const UNIFORM: f64 = 0.35;
const HTTP1: Protocol = Protocol::Http1 { connections: 32 };
const HTTP2: Protocol = Protocol::Http2 { connections: 4, streams: 16 };
