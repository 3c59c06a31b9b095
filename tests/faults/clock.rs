//! The clock of the machine is set while the server runs.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client::Client,
    postgres::{Schema, postgres_is_at_hand},
    site::Site,
    tools::at_hand,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_a_year_ahead_and_back_is_logged_and_closes_nothing_for_good_on_sqlite()
{
    set_a_year_ahead_and_back(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_a_year_ahead_and_back_is_logged_and_closes_nothing_for_good_on_postgres()
 {
    if postgres_is_at_hand() {
        let schema = Schema::create().await;
        set_a_year_ahead_and_back(Some(schema.url())).await;
    }
}

async fn set_a_year_ahead_and_back(database: Option<String>) {
    if !at_hand(&["cc"]) {
        return;
    }
    let mut site = Site::init(database);
    site.make_domain();
    let offset = below(&mut site);
    site.start();
    let (client, secrets) = (site.client(), site.v2("secret"));
    for (path, lifetime) in [("short", "30d"), ("long", "0s")] {
        let metadata = json!({ "deactivateVersionAfter": lifetime });
        let body = json!({ "path": path, "metadata": metadata, "version": { "data": { "n": 1 } } });
        client.post(&secrets, body).await.ok();
    }

    set(&offset, YEAR);
    assert_eq!(jumps(&site, 1).await, [YEAR]);
    let short = format!("{secrets}/short?includeData=true");
    // Its credential has a year, too.
    client.get(&short).await.error(401, 50_475_011);
    set(&offset, YEAR - DAY);
    assert_eq!(jumps(&site, 2).await, [YEAR, -DAY]);
    assert_eq!(client.get(&short).await.ok()["version"]["state"], "deactivated");
    add_version(&client, &secrets).await;

    set(&offset, 0);
    assert_eq!(jumps(&site, 3).await, [YEAR, -DAY, DAY - YEAR]);
    // It was closed by the clock alone, not by anything that was written.
    assert_eq!(client.get(&short).await.ok()["version"]["data"]["n"], 1);
    add_version(&client, &secrets).await;
    let versions = client.get(&format!("{secrets}/long/version")).await.ok();
    let made: Vec<_> =
        versions.as_array().expect("a list").iter().map(|one| one["createdAt"].as_str()).collect();
    assert!(made.len() == 3 && made.is_sorted(), "{made:?}");
    site.succeed(&["audit", "verify"]);
}

async fn add_version(client: &Client, secrets: &str) {
    let body = json!({ "data": { "n": 2 } });
    let made: Value = client.post(&format!("{secrets}/long/version"), body).await.ok();
    assert_eq!(made["state"], "active", "{made}");
}

/// Puts a clock below the servers of this site that the file which is given sets.
fn below(site: &mut Site) -> std::path::PathBuf {
    let cwd = site.cwd.path().to_owned();
    let (source, library, offset) = (cwd.join("clock.c"), cwd.join("clock.so"), cwd.join("offset"));
    fs::write(&source, include_str!("clock.c")).expect("to write");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
    assert!(compiler.status().expect("a compiler").success());
    for (name, path) in [("LD_PRELOAD", &library), ("CLOCK_OFFSET", &offset)] {
        site.environment.push((name.to_owned(), path.to_str().expect("UTF-8").to_owned()));
    }
    offset
}

fn set(offset: &Path, seconds: i64) {
    let new = offset.with_extension("new");
    fs::write(&new, seconds.to_string()).expect("to write");
    fs::rename(new, offset).expect("to rename");
}

/// The jumps that the log tells of, in seconds, once there are so many; whole minutes, since time goes on meanwhile.
async fn jumps(site: &Site, count: usize) -> Vec<i64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let log = fs::read_to_string(site.log()).expect("a log");
        let found = log.lines().filter_map(|line| line.split_once("clock.jump_seconds="));
        let seconds = found.filter_map(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        let jumps: Vec<_> = seconds.map(|seconds| (seconds / 60.0).round() as i64 * 60).collect();
        if jumps.len() >= count {
            return jumps;
        }
        assert!(Instant::now() < deadline, "the log tells nothing: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
