//! Rotation of the keys of domains, and sealing anew.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{KEYS, NEWEST, everything, keep_all_versions, with_a_bit_of_everything};
use crate::support::{Domain, Server, both_engines};

both_engines!(
    a_rotation_acts_on_the_next_request_of_every_server,
    sealing_anew_changes_nothing_but_the_key,
    a_server_seals_anew_by_itself,
    what_does_not_open_keeps_its_key_and_stops_nothing,
    the_database_refuses_to_part_data_from_its_key,
    a_request_that_began_before_a_rotation_ends_well,
    nothing_is_lost_under_writers_on_two_servers,
);

const UNDER_NEWEST: &str = "SELECT COUNT(*) FROM secret_versions v JOIN domain_keys k \
     ON k.key_id = v.key_id WHERE k.generation = (SELECT MAX(generation) FROM domain_keys)";
const ROWS_UNDER_NEWEST: &str = "SELECT COUNT(*) FROM secrets s JOIN domain_keys k \
     ON k.key_id = s.key_id WHERE k.generation = (SELECT MAX(generation) FROM domain_keys)";

fn client_of(server: &Server, domain: &Domain) -> crate::support::Client {
    server.client(Some((&domain.certificate_pem[..], &domain.private_key_pem[..])))
}

async fn a_rotation_acts_on_the_next_request_of_every_server(server: Server) {
    let mut other = server.another().await;
    let domain = server.domain().await;
    let clients = [domain.client.clone(), client_of(&other, &domain)];
    domain.create("a", "{}").await;
    for (round, keys) in (2_u32..).zip([&server.keys, &other.keys, &server.keys]) {
        for client in &clients {
            client.get(&domain.secret("a?includeData=true")).await.ok();
        }
        let made = keys.rotate_domain(domain.okms_id).await.expect("a domain").get();
        assert_eq!(made, round);
        for (at, client) in clients.iter().enumerate() {
            let path = format!("s/{round}/{at}");
            let body = json!({ "path": path, "version": { "data": { "n": 1 } } });
            client.post(&format!("{}/secret", domain.base), body).await.ok();
            // Both the data and the secret's own row; and metadata alone moves the row too.
            let of_path = |sql: &str| {
                format!(
                    "{sql} FROM secrets s JOIN secret_versions v ON v.secret_id = s.secret_id \
                     JOIN domain_keys k ON k.key_id = s.key_id AND k.key_id = v.key_id \
                     WHERE s.path = '{path}' AND k.generation = {round}"
                )
            };
            let found = server.database.bytes(&of_path("SELECT v.sealed_data")).await;
            assert_eq!(found.len(), 1, "round {round}, server {at}");
            assert_eq!(found[0][1..5], round.to_be_bytes(), "the data names its key too");
        }
    }
    other.stop().await;
}

async fn sealing_anew_changes_nothing_but_the_key(mut server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    server.stop().await;
    // No server that would do it too.
    let mut other = server.another().await;
    let before = everything(&other, &domain).await;
    other.stop().await;
    let rows = "SELECT sealed_data FROM secret_versions";
    let sealed_before = server.database.bytes(rows).await;
    let keys = server.keys_of().await;
    keys.rotate_domain(domain.okms_id).await.expect("a domain");
    keys.rotate_domain(domain.okms_id).await.expect("a domain");
    let mut told = 0;
    let report = keys.rewrap(domain.okms_id, |_| told += 1).await.expect("storage works");
    assert_eq!(report.versions, sealed_before.len() as u64);
    assert_eq!((report.destroyed, report.pending, told > 0), (2, false, true));
    assert_eq!(server.database.number(KEYS).await, 1);
    let sealed_after = server.database.bytes(rows).await;
    assert!(sealed_after.iter().all(|sealed| !sealed_before.contains(sealed)));
    let again = keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
    assert_eq!((again.versions, again.destroyed), (0, 0));
    let mut other = server.another().await;
    assert_eq!(everything(&other, &domain).await, before);
    other.stop().await;
}

async fn a_server_seals_anew_by_itself(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let before = everything(&server, &domain).await;
    server.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    one_key_is_left(&server).await;
    assert_eq!(server.database.number(NEWEST).await, 2);
    assert_eq!(everything(&server, &domain).await, before);
}

async fn what_does_not_open_keeps_its_key_and_stops_nothing(mut server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    server.stop().await;
    let damage = "UPDATE secret_versions SET sealed_data = (SELECT sealed_data FROM secret_versions \
                  WHERE version = 70) WHERE version BETWEEN 33 AND 40";
    assert_eq!(server.database.execute(damage).await, 8);
    let sealed = server.database.bytes("SELECT sealed_data FROM secret_versions").await.len();
    let keys = server.keys_of().await;
    keys.rotate_domain(domain.okms_id).await.expect("a domain");
    // Told once, in whichever list their rows are met.
    let damaged: Vec<_> = (33..=40).map(|version| ("many", Some(version))).collect();
    for versions in [sealed as u64 - 8, 0] {
        let report = keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
        assert_eq!((report.versions, report.destroyed, report.pending), (versions, 0, true));
        let refused: Vec<_> =
            report.refused.iter().map(|(p, v)| (p.as_str(), v.map(|v| v.get()))).collect();
        assert_eq!(refused, damaged);
    }
    assert_eq!(server.database.number(KEYS).await, 2);
}

async fn the_database_refuses_to_part_data_from_its_key(mut server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    server.stop().await;
    let refused = async |sql: &str| {
        let refused = server.database.try_execute(sql).await;
        assert!(refused.is_err(), "{sql}: {refused:?}");
    };
    for sql in [
        "DELETE FROM domain_keys",
        "DELETE FROM store_keys",
        "UPDATE secret_versions SET key_id = NULL",
        "UPDATE secret_versions SET key_id = 4711",
        "UPDATE secrets SET key_id = 4711",
        "UPDATE domain_keys SET store_key_id = 'another'",
        // As a server of before there were keys of stores would write it.
        "INSERT INTO secret_versions (secret_id, version, created_at, sealed_data) \
         SELECT secret_id, 2, created_at, sealed_data FROM secret_versions",
    ] {
        refused(sql).await;
    }
    server.database.execute("DELETE FROM secret_versions").await;
    refused("DELETE FROM domain_keys").await;
    server.database.execute("DELETE FROM secrets").await;
    server.database.execute("DELETE FROM domain_keys").await;
}

/// A request reads how recent the keys must be when it begins. Here that is set back after the rotation, so
/// the server meets data under a key that it does not know, and seals with one that is gone.
async fn a_request_that_began_before_a_rotation_ends_well(server: Server) {
    let domain = server.domain().await;
    for path in ["read", "update", "delete", "close"] {
        domain.create(path, r#"{"n":1}"#).await;
    }
    let keys = server.keys_of().await;
    let begun = server.database.number("SELECT keys FROM revisions").await;
    let set_back = format!("UPDATE revisions SET keys = {begun}");
    for round in 0..4 {
        let target = domain.secret("read?includeData=true");
        assert_eq!(domain.client.get(&target).await.ok()["version"]["data"]["n"], 1);
        keys.rotate_domain(domain.okms_id).await.expect("a domain");
        keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
        server.database.execute(&set_back).await;
        match round {
            0 => {
                let read = domain.client.get(&target).await.ok();
                assert_eq!(read["version"]["data"]["n"], 1);
            }
            1 => {
                domain.create("new", r#"{"n":2}"#).await;
                let read = domain.client.get(&domain.secret("new?includeData=true")).await.ok();
                assert_eq!(read["version"]["data"]["n"], 2);
            }
            2 => _ = domain.set_state("close", 1, "deactivated").await.ok(),
            _ => assert_eq!(domain.client.delete(&domain.secret("delete")).await.status, 204),
        }
        let body = json!({ "metadata": { "custom_metadata": { "round": round.to_string() } } });
        domain.client.put(&domain.secret("update"), body).await.ok();
        domain.add_version("update").await;
    }
    let versions = server.database.number("SELECT COUNT(*) FROM secret_versions").await;
    assert_eq!(server.database.number(UNDER_NEWEST).await, versions);
}

/// Rotations and sealing anew on both servers, while both are written to and read from.
async fn nothing_is_lost_under_writers_on_two_servers(server: Server) {
    let mut other = server.another().await;
    let domain = server.domain().await;
    let clients = [domain.client.clone(), client_of(&other, &domain)];
    keep_all_versions(&domain).await;
    for writer in 0..4 {
        domain.create(&format!("w/{writer}"), r#"{"n":1}"#).await;
    }
    let (done, rotations) = (AtomicBool::new(false), AtomicU32::new(1));
    let written: [AtomicU32; 4] = Default::default();
    let write = async |writer: usize| {
        let (client, path) = (&clients[writer % 2], format!("w/{writer}"));
        let (mut version, mut reads) = (1, 0_u32);
        while !done.load(Ordering::SeqCst) {
            version += 1;
            let body = json!({ "data": { "n": version } });
            let target = domain.secret(&format!("{path}/version?cas={}", version - 1));
            client.post(&target, body).await.ok();
            // An old one, from the other side.
            reads = reads.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = reads % version + 1;
            let target = format!("{path}/version/{number}?includeData=true");
            let read = clients[(writer + 1) % 2].get(&domain.secret(&target)).await.ok();
            assert_eq!(read["data"]["n"], number);
        }
        written[writer].store(version, Ordering::SeqCst);
    };
    let rotate = async {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            for keys in [&server.keys, &other.keys] {
                keys.rotate_domain(domain.okms_id).await.expect("a domain");
                rotations.fetch_add(1, Ordering::SeqCst);
                keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
            }
        }
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all((0..4).map(write)), rotate);
    let mut total = 0;
    for (writer, written) in written.iter().enumerate() {
        let written = written.load(Ordering::SeqCst);
        let path = format!("w/{writer}");
        total += i64::from(written);
        for number in 1..=written {
            let target = domain.secret(&format!("{path}/version/{number}?includeData=true"));
            assert_eq!(clients[writer % 2].get(&target).await.ok()["data"]["n"], number);
        }
    }
    one_key_is_left(&server).await;
    let newest = server.database.number(NEWEST).await;
    assert_eq!(newest, i64::from(rotations.load(Ordering::SeqCst)));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM secret_versions").await, total);
    assert_eq!(server.database.number(UNDER_NEWEST).await, total);
    assert_eq!(server.database.number(ROWS_UNDER_NEWEST).await, 4);
    other.stop().await;
}

/// Waits for the servers' own work.
async fn one_key_is_left(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.database.number(KEYS).await > 1 {
        assert!(Instant::now() < deadline, "old keys stay");
        sleep(Duration::from_millis(50)).await;
    }
}
