//! A change of policies or groups acts on the next request, of every server.

use std::sync::Arc;

use okmsd::{
    domain::Error,
    iam::{MAX_GROUP_MEMBERS, MAX_POLICIES},
    service::{Policies, PolicyCache},
};
use serde_json::json;

use super::{GET, GET_DATA, apply, client_of, identity, policies, resource, user};
use crate::{
    codes::FORBIDDEN,
    support::{Client, Domain, Server, both_engines},
};

both_engines!(
    a_change_of_policies_acts_on_the_next_request_of_every_server,
    a_change_of_groups_acts_on_the_next_request_of_every_server,
    a_deny_wins_and_ends_with_its_policy,
    a_file_is_applied_as_a_whole_or_not_at_all,
    policies_and_groups_have_bounds,
    only_users_and_service_accounts_are_members,
    a_policy_must_name_the_region_of_its_domain,
    requests_while_policies_change_are_decided_by_one_or_the_other,
    policies_are_read_to_the_end_whoever_waits_for_them,
    names_that_were_stored_before_commas_were_refused_still_count,
);

const GROUP: &str = "urn:v1:eu:identity:group:test/team";

/// The same credential, at another server on the same database.
async fn clients(server: &Server, other: &Server, domain: &Domain, who: &str) -> [Client; 2] {
    let (certificate, key) = super::identified(server, domain.okms_id, &[who]).await;
    let identity = Some((certificate.as_str(), key.as_str()));
    [server.client(identity), other.client(identity)]
}

async fn a_change_of_policies_acts_on_the_next_request_of_every_server(server: Server) {
    let other = server.another().await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let both = clients(&server, &other, &domain, &user("a")).await;
    let address = domain.secret("a");
    let here = [resource(domain.okms_id, "")];
    for _ in 0..3 {
        for client in &both {
            client.get(&address).await.error(403, FORBIDDEN);
        }
        apply(&server, "p", &user("a"), &here, &[("allow", &[GET])]).await;
        for client in &both {
            client.get(&address).await.ok();
            let data = client.get(&format!("{address}?includeData=true")).await;
            assert_eq!(data.error(403, FORBIDDEN), format!("not allowed: {GET_DATA} is needed"));
        }
        apply(&other, "p", &user("a"), &here, &[("allow", &[GET, GET_DATA])]).await;
        for client in &both {
            client.get(&format!("{address}?includeData=true")).await.ok();
        }
        assert!(policies(&other).delete("p").await.expect("a store"));
    }
    assert!(!policies(&server).delete("p").await.expect("a store"), "there is none any more");
}

async fn a_change_of_groups_acts_on_the_next_request_of_every_server(server: Server) {
    let other = server.another().await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let service_account = "urn:v1:eu:identity:credential:test/oauth2-EU.1";
    let both = clients(&server, &other, &domain, service_account).await;
    let address = domain.secret("a");
    apply(&server, "p", GROUP, &[resource(domain.okms_id, "")], &[("allow", &["*"])]).await;
    let (group, member) = (identity(GROUP), identity(service_account));
    for _ in 0..3 {
        for client in &both {
            client.get(&address).await.error(403, FORBIDDEN);
        }
        let added = policies(&other).add_members(group.clone(), vec![member.clone()]).await;
        assert_eq!(added, Ok(1));
        let again = policies(&other).add_members(group.clone(), vec![member.clone()]).await;
        assert_eq!(again, Ok(0));
        for client in &both {
            client.get(&address).await.ok();
        }
        let removed = policies(&server).remove_members(group.clone(), vec![member.clone()]).await;
        assert_eq!(removed, Ok(1));
    }
    let nobody = policies(&server).remove_members(group.clone(), vec![member.clone()]).await;
    assert_eq!(nobody, Ok(0));
    let members = vec![member, identity(&user("a"))];
    policies(&server).add_members(group.clone(), members).await.expect("members");
    let groups = policies(&server).groups().await.expect("groups");
    assert_eq!((groups.len(), groups[0].urn.as_str(), groups[0].members.len()), (1, GROUP, 2));
    assert_eq!(policies(&server).delete_group(GROUP).await, Ok(2));
    both[1].get(&address).await.error(403, FORBIDDEN);
    // A credential may also name a group itself.
    let direct = client_of(&server, domain.okms_id, &[GROUP]).await;
    direct.get(&address).await.ok();
}

async fn a_deny_wins_and_ends_with_its_policy(server: Server) {
    let domain = server.domain().await;
    domain.create("a/b", "{}").await;
    domain.create("c", "{}").await;
    let client = client_of(&server, domain.okms_id, &[&user("a"), GROUP]).await;
    let here = [resource(domain.okms_id, "")];
    let below_a = [resource(domain.okms_id, "/secret/a/*")];
    apply(&server, "z-allow", &user("a"), &here, &[("allow", &["*"])]).await;
    apply(&server, "a-deny", GROUP, &below_a, &[("deny", &["okms:apikms:secret/*"])]).await;
    client.get(&domain.secret("c")).await.ok();
    client.get(&domain.secret("a/b")).await.error(403, FORBIDDEN);
    client.delete(&domain.secret("a/b")).await.error(403, FORBIDDEN);
    domain.client.get(&domain.secret("a/b")).await.ok();
    assert!(policies(&server).delete("a-deny").await.expect("a store"));
    client.get(&domain.secret("a/b")).await.ok();
    client.delete(&domain.secret("a/b")).await.gone();
}

async fn a_file_is_applied_as_a_whole_or_not_at_all(server: Server) {
    let domain = server.domain().await;
    let document = |name: &str, action: &str| {
        json!({
            "name": name,
            "identities": [user("a")],
            "resources": [{"urn": resource(domain.okms_id, "")}],
            "permissions": {"allow": [{"action": action}]},
        })
    };
    let policies = policies(&server);
    let refusal = async |file: serde_json::Value| match policies.apply(&file.to_string()).await {
        Err(Error::Malformed(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refusal(json!([document("a", "*"), document("b", "okms:apikms:secret/gett")])).await;
    assert!(text.contains("policy 2 of the file") && text.contains("no such action"), "{text}");
    let text = refusal(json!([document("a", "*"), document("a", GET)])).await;
    assert!(text.contains("two policies named a"), "{text}");
    assert!(policies.list().await.expect("policies").is_empty());
    let file = json!([document("b", "*"), document("a", "*")]);
    policies.apply(&file.to_string()).await.expect("policies");
    let listed = policies.list().await.expect("policies");
    let names: Vec<_> =
        listed.iter().map(|(_, policy)| policy.as_ref().expect("sound").name()).collect();
    assert_eq!(names, ["a", "b"]);
    let (stored, _) = policies.find("a").await.expect("a store").expect("a policy");
    assert_eq!(stored.document, Some(document("a", "*").to_string()), "as it was applied");
}

async fn policies_and_groups_have_bounds(server: Server) {
    let domain = server.domain().await;
    let policies = policies(&server);
    let document = |number: u32| {
        json!({
            "name": format!("p{number}"),
            "identities": [user("a")],
            "resources": [{"urn": resource(domain.okms_id, "")}],
            "permissions": {"allow": [{"action": GET}]},
        })
    };
    let file = |numbers: std::ops::Range<u32>| {
        serde_json::Value::Array(numbers.map(document).collect()).to_string()
    };
    policies.apply(&file(0..MAX_POLICIES)).await.expect("as many as may be");
    let refused = policies.apply(&file(MAX_POLICIES..MAX_POLICIES + 1)).await;
    assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    policies.apply(&file(0..1)).await.expect("one in the place of another");
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    assert_eq!(client.get(&domain.secret("")).await.ok(), json!([]), "all of them are read");

    let members = |first: u32, count: u32| -> Vec<_> {
        (first..first + count).map(|number| identity(&user(&number.to_string()))).collect()
    };
    let add = async |members| policies.add_members(identity(GROUP), members).await;
    assert_eq!(add(members(0, MAX_GROUP_MEMBERS)).await, Ok(u64::from(MAX_GROUP_MEMBERS)));
    assert!(matches!(add(members(MAX_GROUP_MEMBERS, 1)).await, Err(Error::Malformed(_))));
    assert_eq!(add(members(0, 1)).await, Ok(0));
}

async fn only_users_and_service_accounts_are_members(server: Server) {
    let policies: Policies = policies(&server);
    for member in ["urn:v1:eu:identity:account:test", "urn:v1:eu:identity:group:test/other"] {
        let refused = policies.add_members(identity(GROUP), vec![identity(member)]).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    }
    for group in [user("a"), "urn:v1:eu:identity:account:test".to_owned()] {
        let members = vec![identity(&user("b"))];
        let refused = policies.add_members(identity(&group), members.clone()).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
        let refused = policies.remove_members(identity(&group), members).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
        let refused = policies.delete_group(&group).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    }
    assert!(policies.groups().await.expect("groups").is_empty());
}

async fn a_policy_must_name_the_region_of_its_domain(server: Server) {
    let domain = server.domain().await;
    let document = |urn: String| {
        json!({
            "name": "p",
            "identities": [user("a")],
            "resources": [{"urn": urn}],
            "permissions": {"allow": [{"action": GET}]},
        })
        .to_string()
    };
    let wrong = resource(domain.okms_id, "").replace(":eu:", ":us:");
    let refused = policies(&server).apply(&document(wrong)).await;
    let Err(Error::Malformed(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("is in the region eu, not us"), "{text}");
    let unknown = "0b8f3a52-9c1d-4e6f-8a7b-1c2d3e4f5a6b".parse().expect("an id");
    let applied = policies(&server).apply(&document(resource(unknown, ""))).await;
    let warnings = &applied.expect("a policy")[0].warnings;
    assert_eq!(*warnings, [format!("there is no domain {unknown} yet")]);
}

/// Whoever is allowed by both the old and the new policies is never denied in between.
async fn requests_while_policies_change_are_decided_by_one_or_the_other(server: Server) {
    let other = server.another().await;
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "p", &user("a"), &here, &[("allow", &[GET])]).await;
    let both = clients(&server, &other, &domain, &user("a")).await;
    let address = domain.secret("a");
    let readers = both.iter().flat_map(|client| [client, client, client]).map(|client| {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move {
            for _ in 0..60 {
                client.get(&address).await.ok();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for number in 0..30 {
        let actions: &[&str] = if number % 2 == 0 { &[GET, GET_DATA] } else { &[GET] };
        apply(&server, "p", &user("a"), &here, &[("allow", actions)]).await;
    }
    for reader in readers {
        reader.await.expect("never denied");
    }
}

/// So that callers who hang up do not keep the others waiting for ever.
async fn policies_are_read_to_the_end_whoever_waits_for_them(server: Server) {
    let domain = server.domain().await;
    // Documents of nearly the largest size.
    let resources: Vec<_> = (0..500)
        .map(|number| json!({"urn": resource(domain.okms_id, &format!("/secret/{number:0>40}"))}))
        .collect();
    let document = |number: u32| {
        json!({
            "name": format!("p{number}"),
            "identities": [user("a")],
            "resources": resources,
            "permissions": {"allow": [{"action": GET}]},
        })
    };
    let file: serde_json::Value = (0..100).map(document).collect();
    policies(&server).apply(&file.to_string()).await.expect("policies");
    let revision = server.database.number("SELECT iam FROM revisions").await;
    let cache = Arc::new(PolicyCache::new(server.store.clone()));
    let identities = [user("a")];
    let mut given_up = 0;
    for _ in 0..10 {
        // Asked for, and given up before it is there, unless it is there by now.
        let mut waiting = Box::pin(cache.at(revision, &identities));
        given_up += u32::from(!super::turns::poll_once(&mut waiting).await);
    }
    assert!(given_up > 0);
    let (one, other) =
        tokio::join!(cache.at(revision, &identities), cache.at(revision, &identities));
    let (one, other) = (one.expect("policies"), other.expect("policies"));
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!((one.revision(), cache.readings()), (revision, 1));
    // A later revision is read anew, also where somebody waits for an earlier one.
    apply(&server, "q", &user("b"), &[resource(domain.okms_id, "")], &[("allow", &[GET])]).await;
    let one = cache.at(revision + 1, &identities).await.expect("policies");
    assert_eq!((one.revision(), cache.readings()), (revision + 1, 2));
}

async fn names_that_were_stored_before_commas_were_refused_still_count(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let here = [resource(domain.okms_id, "")];
    apply(&server, "a b", &user("a"), &here, &[("allow", &[GET])]).await;
    let (stored, _) = policies(&server).find("a b").await.expect("a store").expect("a policy");
    let document = stored.document.expect("a text").replace("a b", "a, b");
    let refused = policies(&server).apply(&document).await;
    let Err(Error::Malformed(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("name must not have commas"), "{text}");
    let before = format!("UPDATE policies SET name = 'a, b', document = '{document}'");
    assert_eq!(server.database.execute(&before).await, 1);
    server.database.execute("UPDATE revisions SET iam = iam + 1").await;
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    client.get(&domain.secret("a")).await.ok();
    assert!(policies(&server).delete("a, b").await.expect("a store"));
    client.get(&domain.secret("a")).await.error(403, FORBIDDEN);
}
