//! A TCP balancer as HAProxy is with Patroni's health check: it leads to the node that says it is the primary, and
//! ends the connections to one that is not any more.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::cluster::Node;

pub struct Balancer {
    pub address: SocketAddr,
    primary: watch::Receiver<Option<u16>>,
}

impl Balancer {
    pub async fn start(nodes: Vec<Node>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (primary, seen) = watch::channel(None);
        let known = seen.clone();
        tokio::spawn(async move {
            loop {
                let mut found = None;
                for node in &nodes {
                    if status(node.rest, "/primary").await == Some(200) {
                        found = Some(node.postgres);
                    }
                }
                primary.send_if_modified(|known| std::mem::replace(known, found) != found);
                sleep(INTERVAL).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                tokio::spawn(async move {
                    let port = *seen.borrow_and_update();
                    let Some(port) = port else { return };
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { address, primary: known }
    }

    /// Waits until it knows a primary.
    pub async fn leads_to_one(&self) {
        self.primary.clone().wait_for(Option::is_some).await.expect("it runs");
    }
}

/// What a node's Patroni answers a GET with.
pub async fn status(port: u16, path: &str) -> Option<u16> {
    let text = ask(port, "GET", path, "").await?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Asks a node's Patroni; gives its answer, headers and all.
pub async fn ask(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(ANSWER, asked).await.ok()?
}

const INTERVAL: Duration = Duration::from_millis(200);
/// A switch-over is answered when it is done.
const ANSWER: Duration = Duration::from_secs(20);
