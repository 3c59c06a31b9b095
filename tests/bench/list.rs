//! Lists: pages of secrets, a folder of KV2 as a whole, and pages of versions, against the floor: the same
//! listener, TLS and HTTP that answer the same bytes each time.

mod support;

use std::sync::Arc;

use support::{
    Options, Report, client,
    compare::against_floor,
    http::{Ask, Protocol, Question},
    okmsd::Okmsd,
};

fn main() {
    support::main("list", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let okmsd = Okmsd::start();
    okmsd.fill(options.choose(10_000, 300)).await;
    okmsd.fill_versions("many", options.choose(24_000, 300)).await;
    let page = |path: String| {
        let ask: Ask = Arc::new(move |_| Question::get(path.clone()).with(PAGE_SIZE, "100"));
        ask
    };
    let whole = |path: String| {
        let ask: Ask = Arc::new(move |_| Question::get(format!("{path}?list=true")));
        ask
    };
    for (case, ask) in [
        ("v2 secrets, page of 100", page(okmsd.v2("secret"))),
        ("v2 versions, page of 100", page(okmsd.v2("secret/many/version"))),
        ("v1 folder, whole", whole(okmsd.v1("metadata/bench"))),
        ("v1 secret of many versions", page(okmsd.v1("metadata/many"))),
    ] {
        let protocol = Protocol::Http1 { connections: 16 };
        against_floor(case, &okmsd, protocol, ask, options, report).await;
    }
}

const PAGE_SIZE: &str = "x-pagination-size";
