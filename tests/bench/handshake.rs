//! Handshakes with client certificates, full and resumed, against rustls alone: from the connection to its
//! orderly end, so that the server has verified the client and handed out its tickets.

mod support;

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use rustls::{ClientConfig, HandshakeKind, client::Resumption};
use support::{
    Options, Report, client,
    compare::{FLOOR, OKMSD, Subject, compare},
    floor::Floor,
    http::{Target, connect},
    load::{self, Measured, Pace, Worker},
    okmsd::Okmsd,
    report::{self, Quantity},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() {
    support::main("handshake", bench);
}

async fn bench(options: &Options, report: &mut Report) {
    let okmsd = Okmsd::start();
    let floor = Floor::bare(&okmsd);
    for (case, kind) in [("full", HandshakeKind::Full), ("resumed", HandshakeKind::Resumed)] {
        if !options.wants(case) {
            continue;
        }
        let subject = |name, process, target| Handshakes { name, process, target, kind };
        let mut subjects: [Box<dyn Subject>; 2] = [
            Box::new(subject(OKMSD, okmsd.process(), okmsd.target())),
            Box::new(subject(FLOOR, floor.process(), floor.target.clone())),
        ];
        compare(case, &mut subjects, options, report).await;
        let target = report::Target::AtLeast(0.9);
        report.ratio((case, OKMSD), (case, FLOOR), Quantity::Rate, target);
    }
}

struct Handshakes {
    name: &'static str,
    process: u32,
    target: Target,
    kind: HandshakeKind,
}

impl Subject for Handshakes {
    fn name(&self) -> &str {
        self.name
    }

    fn measure<'a>(&'a mut self, pace: Pace, options: &'a Options) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let mut workers: Vec<Box<dyn Worker>> = Vec::new();
            for _ in 0..WORKERS {
                workers.push(Box::new(self.worker().await));
            }
            let (warm_up, time) = (options.warm_up, options.time);
            load::run(workers, pace, warm_up, time, Some(self.process)).await
        })
    }
}

impl Handshakes {
    /// A worker with tickets of its own, where it shall have any.
    async fn worker(&self) -> Shaker {
        let mut tls = self.target.tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = match self.kind {
            HandshakeKind::Resumed => Resumption::in_memory_sessions(4),
            _ => Resumption::disabled(),
        };
        let shaker = Shaker { address: self.target.address, tls: Arc::new(tls), kind: self.kind };
        // For its first tickets.
        shaker.shake().await.expect("a handshake");
        shaker
    }
}

struct Shaker {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    kind: HandshakeKind,
}

impl Worker for Shaker {
    fn ask(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let kind = self.shake().await.map_err(|error| error.to_string())?;
            match kind == Some(self.kind) {
                true => Ok(()),
                false => Err(format!("a handshake of the kind {kind:?}")),
            }
        })
    }
}

impl Shaker {
    async fn shake(&self) -> std::io::Result<Option<HandshakeKind>> {
        let mut tls = connect(self.address, self.tls.clone()).await?;
        tls.shutdown().await?;
        tls.read_to_end(&mut Vec::new()).await?;
        Ok(tls.get_ref().1.handshake_kind())
    }
}

const WORKERS: usize = 8;
