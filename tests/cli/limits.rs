//! Limits from the configuration file and from the environment, in the real program.

use std::{fs, net::TcpStream};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::Method;

use crate::{
    harness::{Server, okmsd, read},
    production::Production,
};

/// Starts the server with this environment, asks it many times at once, and gives what those were told of whom there
/// were too many requests.
async fn refusals(production: &Production, environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = okmsd(production.cwd.path(), &["serve", "--config", "data/okmsd.toml"]);
    command.envs(environment.iter().copied());
    // Not by a request, which would count.
    let listens = || TcpStream::connect(("127.0.0.1", production.port)).is_ok();
    let server = Server::start(command, &production.cwd.path().join("log"), listens);
    let client = production.client(None);
    let token = [("x-vault-token", "none")];
    // More than the rate of one in a second lets through, however slow the machine is.
    let asked = (0..100).map(|_| client.send(Method::GET, "/x", &token, Bytes::new()));
    let mut refused = Vec::new();
    for answer in join_all(asked).await {
        match answer.status {
            401 => {}
            status => {
                assert_eq!((status, answer.header("retry-after")), (429, Some("2")));
                refused.push(answer.text());
            }
        }
    }
    assert_eq!(server.stop(), Some(0));
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_come_from_the_file_and_from_the_environment() {
    let production = Production::init();
    assert_eq!(refusals(&production, &[]).await, Vec::<String>::new(), "the defaults");
    let file = production.data("okmsd.toml");
    let text = format!("{}\n[limits]\nrequests_per_address = 1\n", read(&file));
    fs::write(&file, text).unwrap();
    let of_address = refusals(&production, &[]).await;
    assert!(!of_address.is_empty());
    for text in of_address {
        assert!(text.contains("too many requests of this address, try again"), "{text}");
    }
    // The environment wins over the file.
    let environment = [("OKMSD_REQUESTS_PER_ADDRESS", "0"), ("OKMSD_REQUESTS_PER_CREDENTIAL", "1")];
    let of_credential = refusals(&production, &environment).await;
    assert!(!of_credential.is_empty());
    for text in of_credential {
        assert!(text.contains("too many requests of this credential, try again"), "{text}");
    }
}
