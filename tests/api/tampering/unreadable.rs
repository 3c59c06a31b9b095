//! Rows and keys that cannot be read: nothing is built on them, and they stand in nobody's way.

use super::{Scene, VICTIM, data, flipped};
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    nothing_is_written_on_top_of_rows_that_do_not_verify,
    a_secret_that_does_not_verify_can_be_deleted_and_made_anew,
    a_secret_whose_row_cannot_even_be_read_can_be_deleted_and_made_anew,
    a_list_passes_over_rows_that_cannot_be_read_wherever_they_stand,
    thousands_of_rows_that_cannot_be_read_at_the_end_of_a_list_end_it,
    a_damaged_key_is_an_error_and_no_false_answer,
    a_damaged_region_gets_into_no_answer,
);

async fn nothing_is_written_on_top_of_rows_that_do_not_verify(server: Server) {
    let scene = Scene::set(server).await;
    let id = scene.secret_id(VICTIM).await;
    for sql in [
        format!("UPDATE secrets SET cas_required = 1 WHERE secret_id = {id}"),
        format!("UPDATE secrets SET custom_metadata = '{{}}' WHERE secret_id = {id}"),
        format!("UPDATE secrets SET mac = NULL WHERE secret_id = {id}"),
    ] {
        let row = format!("secret_id = {id}");
        let saved = scene.copy_row("secrets", &row).await;
        assert!(scene.force(&sql).await);
        let changed = scene.copy_row("secrets", &row).await;
        scene.add(VICTIM, 5).await.error(500, INTERNAL);
        let target = scene.domain.secret(VICTIM);
        scene.domain.client.put(&target, r#"{"maxVersions":3}"#).await.error(500, INTERNAL);
        scene.domain.set_state(VICTIM, 1, "deactivated").await.error(500, INTERNAL);
        assert_eq!(scene.copy_row("secrets", &row).await.cells, changed.cells);
        scene.put_back(&saved).await;
    }
    let row = format!("secret_id = {id} AND version = 2");
    assert!(
        scene.force(&format!("UPDATE secret_versions SET deactivated_at = 1 WHERE {row}")).await
    );
    scene.domain.set_state(VICTIM, 2, "active").await.error(500, INTERNAL);
    // The other versions are not harmed.
    scene.domain.set_state(VICTIM, 1, "deactivated").await.ok();
}

async fn a_damaged_region_gets_into_no_answer(server: Server) {
    let scene = Scene::set(server).await;
    let id = &scene.domain.okms_id;
    let before = scene.get(VICTIM).await.ok();
    for damaged in ["u\u{1}", "", "e:u", "EU"] {
        assert!(
            scene
                .force(&format!("UPDATE domains SET region = '{damaged}' WHERE okms_id = '{id}'"))
                .await
        );
        scene.get(VICTIM).await.error(500, INTERNAL);
    }
    assert!(scene.force(&format!("UPDATE domains SET region = 'eu' WHERE okms_id = '{id}'")).await);
    assert_eq!(scene.get(VICTIM).await.ok(), before);
}

async fn a_secret_that_does_not_verify_can_be_deleted_and_made_anew(server: Server) {
    let scene = Scene::set(server).await;
    let sql = format!("UPDATE secrets SET max_versions = 7 WHERE {}", scene.secret(VICTIM));
    assert!(scene.force(&sql).await);
    scene.get(VICTIM).await.error(500, INTERNAL);
    scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
    scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
    scene.make(VICTIM).await;
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 4));
}

async fn a_secret_whose_row_cannot_even_be_read_can_be_deleted_and_made_anew(server: Server) {
    let scene = Scene::set(server).await;
    let short = scene.server.bytes_literal(&[1]);
    for damage in [
        "custom_metadata = '['".to_owned(),
        "deactivate_version_after = 'x'".to_owned(),
        format!("mac = {short}"),
        format!("incarnation = {short}"),
        format!("state_changes = {short}"),
        "incarnation = NULL".to_owned(),
    ] {
        let sql = format!("UPDATE secrets SET {damage} WHERE {}", scene.secret(VICTIM));
        assert!(scene.force(&sql).await, "{damage}");
        scene.get(VICTIM).await.error(500, INTERNAL);
        scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
        scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
        scene.make(VICTIM).await;
    }
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 4));
}

async fn a_list_passes_over_rows_that_cannot_be_read_wherever_they_stand(server: Server) {
    let domain = server.domain().await;
    for number in 10..45 {
        domain.create(&format!("s/{number}"), "{}").await;
    }
    // One alone behind a full page, a run of more than a page, and the last ones.
    for damaged in ["s/20", "s/2_", "s/30", "s/4_"] {
        let sql = format!("UPDATE secrets SET custom_metadata = '[' WHERE path LIKE '{damaged}'");
        assert!(server.database.execute(&sql).await > 0);
        let healthy = server
            .database
            .texts("SELECT path FROM secrets WHERE custom_metadata <> '[' ORDER BY path")
            .await;
        let (mut cursor, mut listed) = (None::<String>, Vec::new());
        loop {
            let mut headers = vec![("x-pagination-size", "10")];
            headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
            let page = domain.client.page(&domain.secret(""), &headers).await;
            let items = page.ok().as_array().expect("a list").clone();
            listed
                .extend(items.iter().map(|item| item["path"].as_str().expect("a path").to_owned()));
            cursor = page.header("x-pagination-cursor-next").map(str::to_owned);
            assert!(cursor.is_none() || items.len() == 10, "{damaged}: a page that is not full");
            if cursor.is_none() {
                break;
            }
        }
        let healthy: Vec<_> =
            healthy.into_iter().map(|path| String::from_utf8(path).expect("UTF-8")).collect();
        assert_eq!(listed, healthy, "{damaged}");
    }
}

async fn thousands_of_rows_that_cannot_be_read_at_the_end_of_a_list_end_it(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    // So many that the next attempt to get past them would be one too many.
    let damaged = "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
                   deactivate_version_after, custom_metadata, current_version, oldest_version, \
                   created_at, updated_at, incarnation) \
                   WITH RECURSIVE numbers (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM numbers \
                   WHERE n < 14999) \
                   SELECT okms_id, 'h/' || n, 0, 0, '0s', '[', 0, 0, created_at, updated_at, \
                   incarnation FROM secrets, numbers WHERE path = 'a'";
    assert_eq!(server.database.execute(damaged).await, 5_000);
    let list = domain.client.get(&domain.secret("")).await;
    assert_eq!(list.ok().as_array().expect("a list").len(), 1);
    assert_eq!(list.header("x-pagination-cursor-next"), None);
}

/// The keys in memory go on serving; a process that starts then says what is wrong.
async fn a_damaged_key_is_an_error_and_no_false_answer(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let row = format!("okms_id = '{}'", scene.domain.okms_id);
    for cell in scene.cells("domain_keys", &row).await {
        if !["generation", "wrapped_key", "store_key_id"].contains(&&cell.column[..]) {
            continue;
        }
        for value in flipped(&cell) {
            let set = |value: &[u8]| {
                let literal = scene.literal(&cell.kind, Some(value));
                format!("UPDATE domain_keys SET {} = {literal} WHERE {row}", cell.column)
            };
            if !scene.force(&set(&value)).await {
                continue;
            }
            assert_eq!(scene.before().await, before, "{}", set(&value));
            scene.server.open_again().await.expect_err("a damaged key");
            assert!(scene.force(&set(cell.value.as_deref().expect("a value"))).await);
        }
    }
    scene.server.open_again().await.expect("the key is as it was");
}
