//! Rows that were changed, emptied, cut, swapped, put back or removed.

use super::{Cell, NEIGHBOURS, Scene, VICTIM, data, flipped};
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    a_bit_flipped_in_any_column_is_found_and_harms_no_other,
    a_column_that_is_emptied_is_found_and_harms_no_other,
    data_that_was_cut_is_refused,
    data_and_rows_that_changed_places_are_refused,
    rows_of_before_a_secret_was_made_anew_are_refused,
    an_older_row_of_a_version_does_not_open_it_again,
    an_older_row_of_a_secret_does_not_hide_its_newest_version,
    a_version_that_is_gone_is_not_taken_for_one_that_never_was,
    a_row_of_nobody_harms_no_secret,
    a_row_that_lost_its_proof_gets_none_from_the_next_process,
    a_rotation_gives_no_proof_to_what_does_not_verify,
);

async fn a_bit_flipped_in_any_column_is_found_and_harms_no_other(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let mut tried = 0;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        for cell in scene.cells(table, &row).await {
            for value in flipped(&cell) {
                let literal = scene.literal(&cell.kind, Some(&value));
                let Cell { column, row, .. } = &cell;
                let what = format!("{table}.{column} = {literal} WHERE {row}");
                if !scene
                    .force(&format!("UPDATE {table} SET {column} = {literal} WHERE {row}"))
                    .await
                {
                    // The engine itself does not let that value in.
                    continue;
                }
                tried += 1;
                if column == "sealed_data" && row.ends_with("version = 2") {
                    // The data of a version that is closed is not opened, so nobody can tell yet.
                    scene.errors(&before, &what).await;
                    scene.check_neighbours(&before, &what).await;
                } else {
                    scene.check(&before, &what).await;
                }
                // A changed key of the row leaves another row behind.
                let changed = column == "secret_id" || column == "version";
                if changed {
                    let gone = if column == "secret_id" && table == "secret_versions" {
                        let version = row.split("version = ").nth(1).expect("a version");
                        format!("secret_id = {literal} AND version = {version}")
                    } else if column == "secret_id" {
                        format!("secret_id = {literal}")
                    } else {
                        let id = row.split(" AND").next().expect("a secret");
                        format!("{id} AND version = {literal}")
                    };
                    assert!(scene.force(&format!("DELETE FROM {table} WHERE {gone}")).await);
                }
                scene.put_back(&saved).await;
            }
        }
        assert_eq!(scene.before().await, before, "{table}: all is as it was");
    }
    assert!(tried > 100, "{tried}");
}

async fn a_column_that_is_emptied_is_found_and_harms_no_other(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let mut tried = 0;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        for cell in scene.cells(table, &row).await.iter().filter(|cell| cell.value.is_some()) {
            let empty = if cell.kind == "number" { "0" } else { "''" };
            for literal in ["NULL", empty] {
                let unchanged = cell.value.as_deref() == Some(literal.as_bytes());
                let sql = format!("UPDATE {table} SET {} = {literal} WHERE {row}", cell.column);
                // Keys of rows are another test's.
                let is_key = ["secret_id", "version"].contains(&cell.column.as_str());
                if unchanged || is_key || !scene.force(&sql).await {
                    continue;
                }
                tried += 1;
                scene.check(&before, &sql).await;
                scene.put_back(&saved).await;
            }
        }
    }
    assert!(tried > 20, "{tried}");
    assert_eq!(scene.before().await, before);
}

async fn data_that_was_cut_is_refused(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let (table, row) = scene.rows(VICTIM).await.remove(4);
    let saved = scene.copy_row(table, &row).await;
    let sql = format!("SELECT sealed_data FROM {table} WHERE {row}");
    let data = scene.server.database.bytes(&sql).await.remove(0);
    let more = [&data[..], b"x"].concat();
    for cut in [&data[..0], &data[..1], &data[..16], &data[..17], &data[..data.len() - 1], &more] {
        let literal = scene.server.bytes_literal(cut);
        assert!(
            scene.force(&format!("UPDATE {table} SET sealed_data = {literal} WHERE {row}")).await
        );
        scene.check(&before, &format!("{} bytes", cut.len())).await;
        scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
    }
    scene.put_back(&saved).await;
    assert_eq!(scene.before().await, before);
}

async fn data_and_rows_that_changed_places_are_refused(server: Server) {
    let scene = Scene::set(server).await;
    let other = scene.server.domain().await;
    other.create(VICTIM, r#"{"k":"canary of another domain"}"#).await;
    let before = scene.before().await;
    let (id, next) = (scene.secret_id(VICTIM).await, scene.secret_id(NEIGHBOURS[1]).await);
    let sql = format!("SELECT secret_id FROM secrets WHERE okms_id = '{}'", other.okms_id);
    let foreign = scene.server.database.texts(&sql).await.remove(0);
    let foreign = String::from_utf8(foreign).expect("a number");
    let row = |id: &str, version: u32| format!("secret_id = {id} AND version = {version}");
    let target = row(&id, 4);
    let saved = scene.copy_row("secret_versions", &target).await;

    // From another version, another secret, another domain: the data alone, and the row as a whole.
    for from in [row(&id, 1), row(&id, 2), row(&next, 4), row(&foreign, 1)] {
        let copied = scene.copy_row("secret_versions", &from).await;
        for columns in [&["sealed_data"][..], &["sealed_data", "key_id"]] {
            let sets: Vec<_> = columns
                .iter()
                .map(|column| {
                    format!("{column} = (SELECT {column} FROM secret_versions WHERE {from})")
                })
                .collect();
            let sql = format!("UPDATE secret_versions SET {} WHERE {target}", sets.join(", "));
            assert!(scene.force(&sql).await, "{sql}");
            scene.check(&before, &sql).await;
            scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
        }
        let place = [("secret_id", id.clone()), ("version", "4".to_owned())];
        assert!(scene.force(&copied.replacing(&place)).await);
        scene.check(&before, &format!("the row of {from}")).await;
        scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
        scene.put_back(&saved).await;
    }

    // Two secrets that changed their paths, or that much of their rows that one has all of the other's.
    let saved = scene.copy_row("secrets", &format!("secret_id = {id}")).await;
    let neighbour = scene.copy_row("secrets", &format!("secret_id = {next}")).await;
    let as_next = saved.replacing(&[("path", format!("'{}'", NEIGHBOURS[1]))]);
    let gone = format!("DELETE FROM secrets WHERE secret_id = {next}");
    assert!(scene.force(&format!("{gone}; {as_next}")).await);
    scene.get(NEIGHBOURS[1]).await.error(500, INTERNAL);
    scene.get(VICTIM).await.error(404, SECRET_NOT_FOUND);
    let swapped = neighbour.replacing(&[("secret_id", id.clone())]);
    assert!(scene.force(&format!("{gone}; {swapped}")).await);
    scene.get(&format!("{}?includeData=true", NEIGHBOURS[1])).await.error(500, INTERNAL);
    assert!(scene.force(&format!("DELETE FROM secrets WHERE secret_id = {id}")).await);
    scene.put_back(&saved).await;
    scene.put_back(&neighbour).await;
    assert_eq!(scene.before().await, before);
}

async fn rows_of_before_a_secret_was_made_anew_are_refused(server: Server) {
    let scene = Scene::set(server).await;
    let mut old = Vec::new();
    for (table, row) in scene.rows(VICTIM).await {
        old.push(scene.copy_row(table, &row).await);
    }
    scene.domain.client.delete(&scene.domain.secret(VICTIM)).await.gone();
    scene.make(VICTIM).await;
    let before = scene.before().await;
    let id = scene.secret_id(VICTIM).await;
    let mut new = Vec::new();
    for (table, row) in scene.rows(VICTIM).await {
        new.push(scene.copy_row(table, &row).await);
    }
    for (old, new) in old.iter().zip(&new) {
        assert!(scene.force(&old.replacing(&[("secret_id", id.clone())])).await);
        scene.check(&before, &format!("an older row of {}", old.table)).await;
        if old.table == "secret_versions" {
            // The older data alone, in the row of today.
            let data =
                old.cells.iter().filter(|(name, _)| ["sealed_data", "key_id"].contains(&&name[..]));
            let data: Vec<_> = data.map(|(name, value)| (&name[..], value.clone())).collect();
            let differs =
                old.cells.iter().any(|(name, value)| name == "sealed_data" && value != "NULL");
            assert!(scene.force(&new.replacing(&data)).await);
            if differs {
                scene.check(&before, "older data").await;
            }
        }
        scene.put_back(new).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn an_older_row_of_a_version_does_not_open_it_again(server: Server) {
    let scene = Scene::set(server).await;
    let version =
        async |number: u32| scene.get(&format!("{VICTIM}/version/{number}?includeData=true")).await;
    let id = scene.secret_id(VICTIM).await;
    let open =
        scene.copy_row("secret_versions", &format!("secret_id = {id} AND version = 4")).await;
    for (state, expected) in [("deactivated", "deactivated"), ("deleted", "deleted")] {
        scene.domain.set_state(VICTIM, 4, state).await.ok();
        let before = scene.before().await;
        let closed =
            scene.copy_row("secret_versions", &format!("secret_id = {id} AND version = 4")).await;
        assert_eq!(version(4).await.ok()["state"], expected);
        scene.put_back(&open).await;
        version(4).await.error(500, INTERNAL);
        scene.check(&before, &format!("an open row of a version that is {state}")).await;
        scene.put_back(&closed).await;
        assert_eq!(scene.before().await, before);
    }
    // The same where it was closed and opened again: every row but the last is an older one.
    let row = format!("secret_id = {id} AND version = 1");
    let mut rows = Vec::new();
    for state in ["deactivated", "active", "deactivated", "active"] {
        rows.push(scene.copy_row("secret_versions", &row).await);
        scene.domain.set_state(VICTIM, 1, state).await.ok();
    }
    let last = scene.copy_row("secret_versions", &row).await;
    for older in rows {
        scene.put_back(&older).await;
        version(1).await.error(500, INTERNAL);
    }
    scene.put_back(&last).await;
    assert_eq!(version(1).await.ok()["data"], data(VICTIM, 1));
}

async fn an_older_row_of_a_secret_does_not_hide_its_newest_version(server: Server) {
    let scene = Scene::set(server).await;
    let row = format!("secret_id = {}", scene.secret_id(VICTIM).await);
    let older = scene.copy_row("secrets", &row).await;
    scene.add(VICTIM, 5).await.ok();
    let before = scene.before().await;
    let newest = scene.copy_row("secrets", &row).await;
    scene.put_back(&older).await;
    scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
    scene.check(&before, "an older row of the secret").await;
    scene.add(VICTIM, 6).await.error(500, INTERNAL);
    scene.put_back(&newest).await;
    assert_eq!(scene.before().await, before);
    // A row of before a version was set.
    let older = scene.copy_row("secrets", &row).await;
    scene.domain.set_state(VICTIM, 5, "deactivated").await.ok();
    scene.put_back(&older).await;
    scene.get(&format!("{VICTIM}?includeData=true")).await.error(500, INTERNAL);
}

async fn a_version_that_is_gone_is_not_taken_for_one_that_never_was(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    for (table, row) in scene.rows(VICTIM).await.into_iter().skip(1) {
        let saved = scene.copy_row(table, &row).await;
        assert!(scene.force(&format!("DELETE FROM {table} WHERE {row}")).await);
        scene.check(&before, &format!("no {row}")).await;
        scene.get(&format!("{VICTIM}/version")).await.error(500, INTERNAL);
        scene.put_back(&saved).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn a_row_of_nobody_harms_no_secret(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let (id, next) = (scene.secret_id(VICTIM).await, scene.secret_id(NEIGHBOURS[1]).await);
    let copied =
        scene.copy_row("secret_versions", &format!("secret_id = {next} AND version = 1")).await;
    let place = [("secret_id", id.clone()), ("version", "5".to_owned())];
    assert!(scene.force(&copied.replacing(&place)).await);
    assert_eq!(scene.before().await, before);
    // It does not keep the version of that number from being written either.
    assert_eq!(scene.add(VICTIM, 5).await.ok()["id"], 5);
    let read = scene.get(&format!("{VICTIM}?includeData=true")).await.ok();
    assert_eq!(read["version"]["data"], data(VICTIM, 5));
}

async fn a_row_that_lost_its_proof_gets_none_from_the_next_process(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    for (table, row) in scene.rows(VICTIM).await {
        let saved = scene.copy_row(table, &row).await;
        let sql = format!("UPDATE {table} SET mac = NULL WHERE {row}");
        assert!(scene.force(&sql).await);
        scene.server.open_again().await.expect("a store");
        scene.check(&before, &sql).await;
        scene.put_back(&saved).await;
    }
    assert_eq!(scene.before().await, before);
}

async fn a_rotation_gives_no_proof_to_what_does_not_verify(server: Server) {
    let scene = Scene::set(server).await;
    let before = scene.before().await;
    let id = scene.secret_id(VICTIM).await;
    let row = format!("secret_id = {id}");
    for sql in [
        format!("UPDATE secrets SET max_versions = 9 WHERE {row}"),
        format!("UPDATE secret_versions SET deactivated_at = NULL WHERE {row} AND version = 2"),
        format!("UPDATE secret_versions SET deactivated_at = 1 WHERE {row} AND version = 3"),
    ] {
        assert!(scene.force(&sql).await);
    }
    let keys = &scene.server.keys;
    keys.rotate_domain(scene.domain.okms_id).await.expect("a domain");
    let report = keys.rewrap(scene.domain.okms_id, |_| ()).await.expect("storage works");
    assert!(report.pending && report.destroyed == 0, "{report:?}");
    let refused: Vec<_> =
        report.refused.iter().map(|(path, id)| (path.as_str(), id.map(|id| id.get()))).collect();
    assert_eq!(refused, [(VICTIM, Some(2)), (VICTIM, Some(3)), (VICTIM, None)]);
    scene.check(&before, "what was changed before a rotation").await;
    scene.get(VICTIM).await.error(500, INTERNAL);
}
