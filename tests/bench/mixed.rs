//! What a busy service asks: 95 % reads, 4 % writes and 1 % pages of a list, over all secrets, against the floor
//! that answers every one of them what okmsd answers a read: an upper bound.

mod support;

use support::{
    Options, Report, client,
    compare::against_floor,
    http::Protocol,
    okmsd::{Okmsd, mixed},
};

fn main() {
    support::main("mixed", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let secrets = options.choose(100_000, 200);
    let okmsd = Okmsd::start();
    okmsd.fill(secrets).await;
    let ask = mixed(okmsd.v2("secret"), secrets);
    for (case, protocol) in [
        ("mixed, HTTP/1.1, 32", Protocol::Http1 { connections: 32 }),
        ("mixed, HTTP/2, 4 x 16", Protocol::Http2 { connections: 4, streams: 16 }),
    ] {
        against_floor(case, &okmsd, protocol, ask.clone(), options, report).await;
    }
}
