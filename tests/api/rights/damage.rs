//! Policies and groups that cannot be read: nobody but root is allowed anything, and operators can mend it.

use okmsd::{
    domain::Error,
    store::{RowHandle, StoredPolicy},
};

use super::{GET, apply, client_of, identity, policies, resource, user};
use crate::{
    codes::{FORBIDDEN, INTERNAL},
    support::{Engine, Server, both_engines},
};

both_engines!(
    where_policies_cannot_be_read_only_root_is_allowed_anything,
    where_groups_cannot_be_read_only_root_is_allowed_anything,
    damaged_rows_are_listed_and_go_by_their_handles,
);

const GROUP: &str = "urn:v1:eu:identity:group:test/team";

/// What a later program may have stored. An old snapshot would allow what it takes back.
async fn where_policies_cannot_be_read_only_root_is_allowed_anything(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    let apply_p = async || apply(&server, "p", &user("a"), &here, &[("allow", &["*"])]).await;
    apply_p().await;
    apply(&server, "sound", &user("a"), &here, &[("allow", &["*"])]).await;
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    client.get(&domain.secret("a")).await.ok();
    let mut damages = vec!["'{\"conditions\":{}}'", "''", "'{'"];
    damages.push("(SELECT document FROM policies WHERE name = 'sound')");
    if matches!(server.engine, Engine::Sqlite) {
        // A database that is whole holds such a thing nowhere.
        damages.push("CAST(x'ff' AS TEXT)");
    }
    for (number, damage) in damages.iter().enumerate() {
        let broken = format!("UPDATE policies SET document = {damage} WHERE name = 'p'");
        assert_eq!(server.database.execute(&broken).await, 1);
        server.database.execute("UPDATE revisions SET iam = iam + 1").await;
        for _ in 0..2 {
            let text = client.get(&domain.secret("a")).await.error(500, INTERNAL);
            assert_eq!(text, "internal error");
            client.get(&domain.secret("")).await.error(500, INTERNAL);
            domain.client.get(&domain.secret("a")).await.ok();
            domain.client.get(&domain.secret("")).await.ok();
        }
        let policies = policies(&server);
        let listed = policies.list().await.expect("policies");
        let is_sound =
            |(stored, policy): &(StoredPolicy, Result<_, _>)| (stored.name.clone(), policy.is_ok());
        let listed: Vec<_> = listed.iter().map(is_sound).collect();
        let expected = [(Some("p".to_owned()), false), (Some("sound".to_owned()), true)];
        assert_eq!(listed, expected, "{damage}");
        let (_, found) = policies.find("p").await.expect("a store").expect("a row");
        found.expect_err("damaged");
        let snapshot = policies.snapshot().await.expect("a store");
        let refused = snapshot.deciding_about(&[user("a")]);
        let Err(Error::Internal(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("the stored policy p cannot be read"), "{text}");
        // Each is mended by a document in its place, or without it.
        if number % 2 == 0 {
            apply_p().await;
            client.get(&domain.secret("a")).await.ok();
        } else {
            assert!(policies.delete("p").await.expect("a store"));
            client.get(&domain.secret("a")).await.ok();
            apply_p().await;
        }
    }
}

/// Whatever rows hold, they are listed, hide no other, and go by what the list calls them.
async fn damaged_rows_are_listed_and_go_by_their_handles(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "sound", &user("a"), &here, &[("allow", &[GET])]).await;
    apply(&server, "p", &user("a"), &here, &[("allow", &[GET])]).await;
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    let policies = policies(&server);
    // Times decide nothing, so they keep nobody from being allowed anything.
    let sql = "UPDATE policies SET created_at = -1, updated_at = 300000000000000 WHERE name = 'p'";
    assert_eq!(server.database.execute(sql).await, 1);
    let (p, read) = policies.list().await.expect("policies").swap_remove(0);
    assert!(read.is_ok() && (p.created_at, p.updated_at) == (None, None), "{p:?}");
    let (p, _) = policies.find("p").await.expect("a store").expect("a row");
    assert_eq!(p.created_at, None);
    client.get(&domain.secret("a")).await.ok();

    let mut names = vec!["'a' || CHR(27)", "''"];
    let mut members = vec![("'x'", "'y'"), ("''", "''")];
    if matches!(server.engine, Engine::Sqlite) {
        names[0] = "'a' || CHAR(27)";
        // Of two names that look the same, the right one goes.
        names.extend(["CAST(x'ff' AS TEXT)", "CAST(x'fe' AS TEXT)", "'a' || CHAR(0)"]);
        members.extend([("CAST(x'ff' AS TEXT)", "'y'"), ("'z'", "CAST(x'fe' AS TEXT)")]);
    }
    for name in &names {
        let sql = format!(
            "INSERT INTO policies (name, document, created_at, updated_at) VALUES ({name}, '', 0, 0)"
        );
        assert_eq!(server.database.execute(&sql).await, 1);
    }
    for (group, member) in &members {
        let sql = format!(
            "INSERT INTO group_members (group_urn, member_urn, created_at) \
             VALUES ({group}, {member}, 0)"
        );
        assert_eq!(server.database.execute(&sql).await, 1);
    }
    let group = identity(GROUP);
    policies.add_members(group, vec![identity(&user("a"))]).await.expect("a member");
    client.get(&domain.secret("a")).await.error(500, INTERNAL);

    let listed = policies.list().await.expect("policies");
    let (sound, damaged): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(_, read)| read.is_ok());
    assert_eq!((sound.len(), damaged.len()), (2, names.len()));
    let mut left = damaged.len();
    for (policy, _) in damaged {
        // As an operator would give it.
        let handle: RowHandle = policy.handle.to_string().parse().expect("a handle");
        assert_eq!(policies.delete_row(handle.clone()).await, Ok(true));
        assert_eq!(policies.delete_row(handle).await, Ok(false));
        left -= 1;
        let count = server.database.number("SELECT COUNT(*) FROM policies").await;
        assert_eq!(count, 2 + left as i64);
    }
    let groups = policies.groups().await.expect("groups");
    let rows = groups.iter().flat_map(|group| &group.members);
    let damaged: Vec<_> = rows.filter_map(|member| member.damage.clone()).collect();
    assert_eq!(damaged.len(), members.len());
    for row in damaged {
        let handle: RowHandle = row.handle.to_string().parse().expect("a handle");
        assert_eq!(policies.delete_member_row(handle.clone()).await, Ok(true));
        assert_eq!(policies.delete_member_row(handle).await, Ok(false));
    }
    let groups = policies.groups().await.expect("groups");
    assert_eq!((groups.len(), groups[0].members.len(), &*groups[0].urn), (1, 1, GROUP));
    client.get(&domain.secret("a")).await.ok();
    // A handle of another table names nothing.
    let handle = groups[0].members[0].urn.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    let handle: RowHandle = handle.collect::<String>().parse().expect("a handle");
    assert_eq!(policies.delete_member_row(handle).await, Ok(false));
}

/// A membership that is lost may be one through which something is denied; and one of an account would
/// make a user root.
async fn where_groups_cannot_be_read_only_root_is_allowed_anything(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "p", &user("a"), &here, &[("allow", &[GET])]).await;
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    let account = "urn:v1:eu:identity:account:test";
    let mut damages = vec![
        (format!("'{account}'"), Some(account.to_owned())),
        ("'x'".to_owned(), Some("x".to_owned())),
    ];
    if matches!(server.engine, Engine::Sqlite) {
        damages.push(("CAST(x'ff' AS TEXT)".to_owned(), None));
    }
    for (damage, name) in damages {
        let broken = format!(
            "INSERT INTO group_members (group_urn, member_urn, created_at) \
             VALUES ({damage}, '{}', 0)",
            user("a")
        );
        assert_eq!(server.database.execute(&broken).await, 1);
        server.database.execute("UPDATE revisions SET iam = iam + 1").await;
        client.get(&domain.secret("a")).await.error(500, INTERNAL);
        client.delete(&domain.secret("a")).await.error(500, INTERNAL);
        domain.client.get(&domain.secret("a")).await.ok();
        let groups = policies(&server).groups().await.expect("groups");
        assert_eq!(groups.len(), 1);
        let told = groups[0].members[0].damage.as_ref().expect("told");
        assert!(told.why.contains(&user("a")), "{}", told.why);
        match name {
            Some(name) => assert_eq!(policies(&server).delete_group(&name).await, Ok(1)),
            None => {
                let deleted = policies(&server).delete_member_row(told.handle.clone()).await;
                assert_eq!(deleted, Ok(true));
            }
        }
        client.get(&domain.secret("a")).await.ok();
        client.delete(&domain.secret("a")).await.error(403, FORBIDDEN);
    }
}
