//! Lists by pages.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    an_empty_list_is_an_empty_array,
    a_page_has_100_secrets_by_default,
    pages_of_each_size_together_are_the_whole_list,
    secrets_are_listed_in_the_order_of_their_bytes,
    listed_secrets_have_their_metadata_and_their_version_without_data,
    versions_are_listed_by_pages,
    sizes_out_of_bounds_are_refused,
    cursors_that_are_none_are_refused,
    a_cursor_counts_for_its_own_list_caller_and_domain_alone,
    a_cursor_that_was_changed_in_any_bit_or_cut_is_refused,
    all_replicas_take_a_cursor_and_a_rotation_of_keys_leaves_it,
    a_list_goes_on_where_it_was_though_secrets_come_and_go,
    a_page_full_of_custom_metadata_ends_early_and_nothing_is_left_out,
);

const SIZE: &str = "x-pagination-size";
const CURSOR: &str = "x-pagination-cursor";
const NEXT: &str = "x-pagination-cursor-next";

async fn create_many(domain: &Domain, paths: impl IntoIterator<Item = String>) {
    for path in paths {
        domain.create(&path, "{}").await;
    }
}

/// Walks through a list, and gives the pages.
async fn pages(domain: &Domain, address: &str, size: usize) -> Vec<Vec<Value>> {
    let (size, mut cursor, mut pages) = (size.to_string(), None::<String>, Vec::new());
    loop {
        let mut headers = vec![(SIZE, size.as_str())];
        headers.extend(cursor.as_deref().map(|cursor| (CURSOR, cursor)));
        let answer = domain.client.page(address, &headers).await;
        pages.push(answer.ok().as_array().expect("a list").clone());
        match answer.header(NEXT) {
            Some(next) => cursor = Some(next.to_owned()),
            None => return pages,
        }
        assert!(pages.len() < 100, "an endless list");
    }
}

fn paths(page: &[Value]) -> Vec<String> {
    page.iter().map(|item| item["path"].as_str().expect("a path").to_owned()).collect()
}

async fn an_empty_list_is_an_empty_array(server: Server) {
    let domain = server.domain().await;
    let list = domain.client.get(&domain.secret("")).await;
    assert_eq!(list.ok(), json!([]));
    assert_eq!(list.header(NEXT), None);
}

async fn a_page_has_100_secrets_by_default(server: Server) {
    let domain = server.domain().await;
    create_many(&domain, (0..100).map(|index| format!("s{index:03}"))).await;
    let list = domain.client.get(&domain.secret("")).await;
    assert_eq!(list.ok().as_array().map(Vec::len), Some(100));
    // The last page has no cursor, even where it is full.
    assert_eq!(list.header(NEXT), None);

    domain.create("s100", "{}").await;
    let list = domain.client.get(&domain.secret("")).await;
    assert_eq!(list.ok().as_array().map(Vec::len), Some(100));
    let next = list.header(NEXT).expect("a cursor").to_owned();
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(next.bytes().all(is_base64url), "{next}");
    for cursor in [next.clone(), format!("{next}==")] {
        let last = domain.client.page(&domain.secret(""), &[(CURSOR, &cursor)]).await;
        assert_eq!(paths(last.ok().as_array().expect("a list")), ["s100"]);
        assert_eq!(last.header(NEXT), None);
    }
    let all = domain.client.page(&domain.secret(""), &[(SIZE, "500")]).await;
    assert_eq!(all.ok().as_array().map(Vec::len), Some(101));
    assert_eq!(all.header(NEXT), None);
}

async fn pages_of_each_size_together_are_the_whole_list(server: Server) {
    let domain = server.domain().await;
    let expected: Vec<_> = (0..30).map(|index| format!("team/s{index:02}")).collect();
    create_many(&domain, expected.iter().rev().cloned()).await;
    for (size, lengths) in [
        (10, vec![10, 10, 10]),
        (11, vec![11, 11, 8]),
        (29, vec![29, 1]),
        (30, vec![30]),
        (100, vec![30]),
        (500, vec![30]),
    ] {
        let pages = pages(&domain, &domain.secret(""), size).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{size}");
        let found: Vec<_> = pages.iter().flat_map(|page| paths(page)).collect();
        assert_eq!(found, expected, "{size}");
    }
}

async fn secrets_are_listed_in_the_order_of_their_bytes(server: Server) {
    let domain = server.domain().await;
    let names = [
        "a", "A", "b", "B", "_", "a/b", "a-b", "a.b", "a:b", "a=b", "a@b", "a0", "a_b", "aa", "ab",
        "10", "9", "Z", "z",
    ];
    let expected: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
    create_many(&domain, names.iter().map(|name| (*name).to_owned())).await;
    let pages = pages(&domain, &domain.secret(""), 10).await;
    let found: Vec<_> = pages.iter().flat_map(|page| paths(page)).collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

async fn listed_secrets_have_their_metadata_and_their_version_without_data(server: Server) {
    let domain = server.domain().await;
    for path in ["a", "b/c"] {
        domain.create(path, r#"{"password":"CANARY"}"#).await;
        domain.add_version(path).await;
    }
    domain.set_state("a", 2, "deactivated").await.ok();
    let list = domain.client.get(&domain.secret("?includeData=true")).await;
    assert!(!list.text().contains("CANARY"));
    let expected: Vec<_> = [
        domain.client.get(&domain.secret("a")).await.ok(),
        domain.client.get(&domain.secret("b/c")).await.ok(),
    ]
    .into();
    assert_eq!(list.ok(), json!(expected));
}

async fn versions_are_listed_by_pages(server: Server) {
    let domain = server.domain().await;
    let body = r#"{"path":"a","version":{"data":{}},"maxVersions":25}"#;
    domain.client.post(&domain.secret(""), body).await.ok();
    for _ in 0..29 {
        domain.add_version("a").await;
    }
    let address = domain.secret("a/version");
    for (size, lengths) in [(10, vec![10, 10, 5]), (25, vec![25]), (24, vec![24, 1])] {
        let pages = pages(&domain, &address, size).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{size}");
        let ids: Vec<_> = pages.iter().flatten().map(|item| item["id"].as_u64()).collect();
        assert_eq!(ids, (6..=30).map(Some).collect::<Vec<_>>());
    }
}

async fn sizes_out_of_bounds_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    for address in [domain.secret(""), domain.secret("a/version")] {
        for size in ["9", "0", "1", "501", "-10", "+10", "abc", "", "10.0", "1e2", "99999999999"] {
            let list = domain.client.page(&address, &[(SIZE, size)]).await;
            let text = list.error(400, MALFORMED);
            assert!(text.to_lowercase().contains(SIZE), "{text}");
        }
        for size in ["10", "500"] {
            domain.client.page(&address, &[(SIZE, size)]).await.ok();
        }
        let twice = domain.client.page(&address, &[(SIZE, "10"), (SIZE, "10")]).await;
        twice.error(400, MALFORMED);
    }
}

async fn cursors_that_are_none_are_refused(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    // "a" and "1" are cursors of a time when they were not authenticated.
    let long = "A".repeat(5_000);
    for address in [domain.secret(""), domain.secret("a/version")] {
        for cursor in ["!", "a b", "YQ", "MQ", "YS8vYg", "_w", "a+b/", "YQ=Y", "==", &long] {
            let list = domain.client.page(&address, &[(CURSOR, cursor)]).await;
            let text = list.error(400, MALFORMED);
            assert!(text.contains("begin the list anew"), "{text}");
        }
        // What a client sends that copies an absent one.
        domain.client.page(&address, &[(CURSOR, "")]).await.ok();
    }
}

async fn a_cursor_counts_for_its_own_list_caller_and_domain_alone(server: Server) {
    let (first, second) = (server.domain().await, server.domain().await);
    for domain in [&first, &second] {
        create_many(domain, (0..11).map(|index| format!("m{index:02}"))).await;
        for path in ["m00", "m01"] {
            domain.client.put(&domain.secret(path), r#"{"maxVersions":30}"#).await.ok();
            for _ in 0..11 {
                domain.add_version(path).await;
            }
        }
    }
    let mut cursors = Vec::new();
    for (domain, path) in [(&first, ""), (&first, "m00/version"), (&first, "m01/version")] {
        let list = domain.client.page(&domain.secret(path), &[(SIZE, "10")]).await;
        cursors.push((path, list.header(NEXT).expect("a cursor").to_owned()));
    }
    let issued = server.credential(first.okms_id, 365).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let colleague = server.client(Some((&issued.credential.certificate_pem, &key)));
    for (path, cursor) in &cursors {
        for (_, other) in &cursors {
            let list = first.client.page(&first.secret(path), &[(CURSOR, other)]).await;
            if cursor == other {
                assert!(!list.ok().as_array().expect("a list").is_empty());
            } else {
                list.error(400, MALFORMED);
            }
        }
        // Another caller of the domain, who may read the same; and the same list of another domain.
        let list = colleague.page(&first.secret(path), &[(CURSOR, cursor)]).await;
        list.error(400, MALFORMED);
        let list = second.client.page(&second.secret(path), &[(CURSOR, cursor)]).await;
        list.error(400, MALFORMED);
        let list = first.client.page(&second.secret(path), &[(CURSOR, cursor)]).await;
        list.error(404, DOMAIN_NOT_FOUND);
    }
}

async fn a_cursor_that_was_changed_in_any_bit_or_cut_is_refused(server: Server) {
    let domain = server.domain().await;
    create_many(&domain, (0..11).map(|index| format!("m{index:02}"))).await;
    let address = domain.secret("");
    let list = domain.client.page(&address, &[(SIZE, "10")]).await;
    let cursor = list.header(NEXT).expect("a cursor").to_owned();
    let bytes = URL_SAFE_NO_PAD.decode(&cursor).expect("base64url");
    let mut forged: Vec<_> = (0..bytes.len() * 8)
        .map(|bit| {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            changed
        })
        .collect();
    forged.extend((1..bytes.len()).map(|length| bytes[..length].to_vec()));
    forged.push([&bytes[..], b"x"].concat());
    for forged in forged {
        let forged = URL_SAFE_NO_PAD.encode(forged);
        let list = domain.client.page(&address, &[(CURSOR, &forged)]).await;
        list.error(400, MALFORMED);
    }
    let rest = domain.client.page(&address, &[(CURSOR, &cursor)]).await;
    assert_eq!(paths(rest.ok().as_array().expect("a list")), ["m10"]);
}

async fn all_replicas_take_a_cursor_and_a_rotation_of_keys_leaves_it(server: Server) {
    let domain = server.domain().await;
    create_many(&domain, (0..21).map(|index| format!("m{index:02}"))).await;
    // What does not verify keeps its key from being destroyed.
    domain.create("z", "{}").await;
    server.database.execute("UPDATE secrets SET max_versions = 1 WHERE path = 'z'").await;
    let address = domain.secret("");
    let list = domain.client.page(&address, &[(SIZE, "10")]).await;
    let cursor = list.header(NEXT).expect("a cursor").to_owned();
    let mut other = server.another().await;
    let identity = Some((&domain.certificate_pem[..], &domain.private_key_pem[..]));
    let client = other.client(identity);
    other.keys.rotate_domain(domain.okms_id).await.expect("a domain");
    let list = client.page(&address, &[(SIZE, "10"), (CURSOR, &cursor)]).await;
    assert_eq!(paths(list.ok().as_array().expect("a list"))[0], "m10");
    // A cursor of the new key, for the server that did not make it.
    let newer = list.header(NEXT).expect("a cursor").to_owned();
    let rest = domain.client.page(&address, &[(CURSOR, &newer)]).await;
    assert_eq!(paths(rest.ok().as_array().expect("a list")), ["m20"]);
    other.stop().await;

    // When the key goes that made a cursor, the list has to begin anew.
    domain.client.delete(&domain.secret("z")).await.gone();
    server.keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
    let list = domain.client.page(&address, &[(CURSOR, &cursor)]).await;
    let text = list.error(400, MALFORMED);
    assert!(text.contains("begin the list anew"), "{text}");
    domain.client.page(&address, &[(CURSOR, &newer)]).await.ok();
}

async fn a_list_goes_on_where_it_was_though_secrets_come_and_go(server: Server) {
    let domain = server.domain().await;
    create_many(&domain, (0..20).map(|index| format!("s{index:02}"))).await;
    let list = domain.client.page(&domain.secret(""), &[(SIZE, "10")]).await;
    let cursor = list.header(NEXT).expect("a cursor").to_owned();
    // The one that the cursor points at goes, one before it comes, one after it goes.
    domain.client.delete(&domain.secret("s09")).await.gone();
    domain.create("s00a", "{}").await;
    domain.client.delete(&domain.secret("s15")).await.gone();
    let rest = domain.client.page(&domain.secret(""), &[(CURSOR, &cursor)]).await;
    let expected: Vec<_> =
        (10..20).filter(|index| *index != 15).map(|index| format!("s{index:02}")).collect();
    assert_eq!(paths(rest.ok().as_array().expect("a list")), expected);
}

async fn a_page_full_of_custom_metadata_ends_early_and_nothing_is_left_out(server: Server) {
    let domain = server.domain().await;
    let entries = (0..64).map(|n| (format!("{n:0>128}"), Value::from("v".repeat(512))));
    let metadata: serde_json::Map<_, _> = entries.collect();
    for number in 0..60 {
        let body = json!({
            "path": format!("s/{number:02}"),
            "metadata": { "customMetadata": metadata },
            "version": { "data": {} },
        });
        domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    }
    let pages = pages(&domain, &format!("{}/secret", domain.base), 100).await;
    // 40,960 bytes each: 25 of them fit into a MiB.
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [25, 25, 10]);
    let paths: Vec<_> = pages.concat().iter().map(|secret| secret["path"].clone()).collect();
    assert_eq!(paths, (0..60).map(|number| format!("s/{number:02}")).collect::<Vec<_>>());
}
