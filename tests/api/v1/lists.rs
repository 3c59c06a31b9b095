//! Lists of folders.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use super::data;
use crate::{
    codes::*,
    support::{Domain, Server, both_engines},
};

both_engines!(
    direct_children_are_listed_and_folders_have_a_slash,
    every_spelling_of_a_list_is_the_same,
    a_root_without_secrets_is_an_empty_list_and_a_folder_without_is_none,
    a_list_is_complete_where_no_page_is_asked_for,
    pages_follow_each_other_without_gaps,
    cursors_count_for_their_folder_alone,
    lists_of_openbao_alone_are_refused_and_not_answered_by_another,
);

async fn keys(domain: &Domain, below: &str) -> Vec<String> {
    let read = data(&domain.kv_get(below).await);
    serde_json::from_value(read["keys"].clone()).unwrap()
}

async fn put(domain: &Domain, paths: &[&str]) {
    for path in paths {
        domain.kv_put(path, "{}").await.ok();
    }
}

async fn direct_children_are_listed_and_folders_have_a_slash(server: Server) {
    let domain = server.domain().await;
    let paths =
        ["b", "a", "a/x", "a/y/z", "a-b", "a.b", "c/d/e", "c/d/f", "c/d", "Z", "ab/c", "a0", "_/_"];
    put(&domain, &paths).await;
    let root = ["Z", "_/", "a", "a-b", "a.b", "a/", "a0", "ab/", "b", "c/"];
    assert_eq!(keys(&domain, "metadata?list=true").await, root);
    assert_eq!(keys(&domain, "metadata/a?list=true").await, ["x", "y/"]);
    assert_eq!(keys(&domain, "metadata/c?list=true").await, ["d", "d/"]);
    assert_eq!(keys(&domain, "metadata/c/d?list=true").await, ["e", "f"]);
    // Other domains have other secrets.
    let other = server.domain().await;
    assert_eq!(keys(&other, "metadata?list=true").await, Vec::<String>::new());
}

async fn every_spelling_of_a_list_is_the_same(server: Server) {
    let domain = server.domain().await;
    put(&domain, &["a/b/c", "a/b/d/e", "f"]).await;
    for below in ["metadata", "metadata/", "metadata?list=true", "metadata/?list=true"] {
        assert_eq!(keys(&domain, below).await, ["a/", "f"], "{below}");
    }
    for below in ["metadata/a/b?list=true", "metadata/a/b/?list=true", "metadata/a%2Fb%2F?list=1"] {
        assert_eq!(keys(&domain, below).await, ["c", "d/"], "{below}");
    }
    let list: Method = "LIST".parse().unwrap();
    for (below, expected) in [
        ("metadata", json!(["a/", "f"])),
        ("metadata/", json!(["a/", "f"])),
        ("metadata/a/b", json!(["c", "d/"])),
        ("metadata/a/b/", json!(["c", "d/"])),
    ] {
        let listed = domain.client.send(list.clone(), &domain.kv(below), &[], "".into()).await;
        assert_eq!(data(&listed)["keys"], expected, "{below}");
    }
    domain.kv_get("metadata/a?list=maybe").await.error(400, MALFORMED);
    domain.kv_get("metadata/a//?list=true").await.error(400, INVALID_PATH);
    domain.kv_get("metadata/a/b/").await.error(400, INVALID_PATH);
}

async fn a_root_without_secrets_is_an_empty_list_and_a_folder_without_is_none(server: Server) {
    let domain = server.domain().await;
    assert_eq!(keys(&domain, "metadata/?list=true").await, Vec::<String>::new());
    domain.kv_get("metadata/a?list=true").await.error(404, SECRET_NOT_FOUND);
    // A secret is no folder.
    put(&domain, &["a", "ab/c"]).await;
    domain.kv_get("metadata/a?list=true").await.error(404, SECRET_NOT_FOUND);
    domain.client.delete(&domain.kv("metadata/ab/c")).await.gone();
    domain.kv_get("metadata/ab?list=true").await.error(404, SECRET_NOT_FOUND);
}

/// Secrets directly in a folder, and folders with several secrets each.
async fn fill(domain: &Domain) -> Vec<String> {
    let mut expected = BTreeSet::new();
    for number in 0..130 {
        put(domain, &[&format!("many/s{number}")]).await;
        expected.insert(format!("s{number}"));
    }
    for number in 0..20 {
        for below in ["a", "b/c", "b/d"] {
            put(domain, &[&format!("many/f{number}/{below}")]).await;
        }
        expected.insert(format!("f{number}/"));
    }
    expected.into_iter().collect()
}

async fn a_list_is_complete_where_no_page_is_asked_for(server: Server) {
    let domain = server.domain().await;
    let expected = fill(&domain).await;
    let listed = domain.kv_get("metadata/many?list=true").await;
    assert_eq!(data(&listed)["keys"], json!(expected));
    assert_eq!(listed.header("x-pagination-cursor-next"), None);
}

async fn pages(domain: &Domain, size: usize) -> Vec<Vec<String>> {
    let (size, mut cursor, mut pages) = (size.to_string(), None::<String>, Vec::new());
    loop {
        let mut headers = vec![("x-pagination-size", size.as_str())];
        headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
        let address = domain.kv("metadata/many?list=true");
        let answer = domain.client.page(&address, &headers).await;
        let keys: Vec<String> =
            serde_json::from_value(data(&answer)["keys"].clone()).expect("names");
        assert!(!keys.is_empty());
        pages.push(keys);
        match answer.header("x-pagination-cursor-next") {
            Some(next) => cursor = Some(next.to_owned()),
            None => return pages,
        }
        assert!(pages.len() < 100, "an endless list");
    }
}

async fn pages_follow_each_other_without_gaps(server: Server) {
    let domain = server.domain().await;
    let expected = fill(&domain).await;
    for (size, count) in [(10, 15), (15, 10), (149, 2), (150, 1), (151, 1)] {
        let pages = pages(&domain, size).await;
        assert_eq!(pages.len(), count, "{size}");
        assert_eq!(pages.concat(), expected, "{size}");
    }
}

async fn cursors_count_for_their_folder_alone(server: Server) {
    let domain = server.domain().await;
    fill(&domain).await;
    let first = |below: &str| domain.kv(&format!("metadata/{below}?list=true"));
    let size = ("x-pagination-size", "10");
    let page = domain.client.page(&first("many"), &[size]).await;
    let cursor = page.header("x-pagination-cursor-next").expect("more").to_owned();
    let headers = [size, ("x-pagination-cursor", cursor.as_str())];
    domain.client.page(&first("many/f0"), &headers).await.error(400, MALFORMED);
    domain.client.page(&domain.kv("metadata"), &headers).await.error(400, MALFORMED);
    domain.client.page(&domain.secret(""), &headers).await.error(400, MALFORMED);
    let read = domain.client.page(&first("many"), &headers).await;
    assert_eq!(data(&read)["keys"].as_array().map(Vec::len), Some(10));
    // A cursor alone goes on with pages of the default size.
    let read = domain.client.page(&first("many"), &headers[1..]).await;
    assert_eq!(data(&read)["keys"].as_array().map(Vec::len), Some(100));
    for (name, value) in [("x-pagination-size", "9"), ("x-pagination-cursor", "x")] {
        let read = domain.client.page(&first("many"), &[(name, value)]).await;
        assert_eq!(read.status, 400);
        assert_eq!(read.value()["data"], Value::Null);
    }
}

async fn lists_of_openbao_alone_are_refused_and_not_answered_by_another(server: Server) {
    let domain = server.domain().await;
    put(&domain, &["a", "a/b"]).await;
    let list: Method = "LIST".parse().unwrap();
    for query in ["limit=1", "after=a", "after=a&limit=-1", "scan=true"] {
        for below in ["metadata", "metadata/", "metadata/a"] {
            let address = domain.kv(&format!("{below}?{query}"));
            domain.client.get(&address).await.error(400, MALFORMED);
            let listed = domain.client.send(list.clone(), &address, &[], "".into()).await;
            listed.error(400, MALFORMED);
        }
    }
    domain.kv_get("detailed-metadata/a?list=true").await.error(404, ROUTE_NOT_FOUND);
}
