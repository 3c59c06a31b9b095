//! The table of rights: who × operation → result. It is kept in `table.txt`, so that whatever changes a
//! right shows in a diff.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use hyper::Method;
use okmsd::iam::Action;

use super::{apply, client_of, resource, user};
use crate::{
    codes::FORBIDDEN,
    document::operations,
    support::{Answer, Client, Domain, Server, both_engines},
};

both_engines!(the_table_of_rights_is_the_one_under_review);

async fn the_table_of_rights_is_the_one_under_review(server: Server) {
    let domain = server.domain().await;
    let callers = callers(&server, &domain).await;
    let variants = variants();
    let tried: BTreeSet<_> = variants.iter().map(|variant| variant.operation.to_owned()).collect();
    let documented = operations().iter().map(|operation| operation.id().to_owned()).collect();
    assert_eq!(tried, documented, "each operation of the document has a place in the table");

    let mut needed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = HEAD.to_owned();
    let mut number = 0;
    for variant in &variants {
        let mut results: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, client) in &callers {
            number += 1;
            let result = try_out(client, &domain, variant, &format!("t/{number}")).await;
            match results.iter_mut().find(|(other, _)| *other == result) {
                Some((_, names)) => names.push(name),
                None => results.push((result, vec![name])),
            }
        }
        results.sort();
        // Writing to a string cannot fail.
        let title = format!("{} {}", variant.operation, variant.what);
        let _ = writeln!(table, "\n{}", title.trim_end());
        for (result, names) in results {
            let action = result.split_once("needs ").map(|(_, action)| action.to_owned());
            needed.entry(variant.operation.to_owned()).or_default().extend(action);
            let _ = writeln!(table, "  {result}");
            for line in wrapped(&names) {
                let _ = writeln!(table, "      {line}");
            }
        }
    }
    for operation in operations() {
        let documented = operation.actions().into_iter().map(short);
        let mut found = needed.remove(operation.id()).expect("a place in the table");
        if matches!(operation.id(), "ListSecretV2" | "ListSecretsMetadata") {
            // A list leaves out what it may not show.
            assert!(found.is_empty(), "{found:?}");
            found.insert(short(super::GET));
        }
        assert_eq!(found, documented.collect(), "{}: what it needs", operation.id());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/rights/table.txt");
    if std::env::var_os("OKMSD_UPDATE_RIGHTS").is_some() {
        fs::write(&file, &table).expect("the file to be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == table,
        "tests/api/rights/table.txt is out of step: run `OKMSD_UPDATE_RIGHTS=1 cargo test --test api \
         the_table_of_rights`, read what changed, and commit it. Found: {table}"
    );
}

/// An operation, with what decides which actions it needs.
struct Variant {
    operation: &'static str,
    what: &'static str,
    method: Method,
    /// Behind the address of the domain; `{}` is the path of the secret.
    address: &'static str,
    body: &'static str,
}

fn variants() -> Vec<Variant> {
    let variant =
        |operation, what, method, address, body| Variant { operation, what, method, address, body };
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    vec![
        variant("ListSecretV2", "", get.clone(), "/v2/secret", ""),
        variant(
            "PostSecretV2",
            "",
            post.clone(),
            "/v2/secret",
            r#"{"path":"{}/new","version":{"data":{}},"maxVersions":3}"#,
        ),
        variant("GetSecretV2", "", get.clone(), "/v2/secret/{}", ""),
        variant("GetSecretV2", "includeData", get.clone(), "/v2/secret/{}?includeData=true", ""),
        variant(
            "GetSecretV2",
            "version and includeData",
            get.clone(),
            "/v2/secret/{}?version=1&includeData=true",
            "",
        ),
        variant("PutSecretV2", "data", put.clone(), "/v2/secret/{}", r#"{"version":{"data":{}}}"#),
        variant("PutSecretV2", "metadata", put.clone(), "/v2/secret/{}", r#"{"maxVersions":9}"#),
        variant(
            "PutSecretV2",
            "metadata that changes nothing",
            put.clone(),
            "/v2/secret/{}",
            r#"{"metadata":{"customMetadata":{}}}"#,
        ),
        variant(
            "PutSecretV2",
            "data and metadata",
            put.clone(),
            "/v2/secret/{}",
            r#"{"version":{"data":{}},"metadata":{"customMetadata":{"a":"b"}}}"#,
        ),
        variant("DeleteSecretV2", "", Method::DELETE, "/v2/secret/{}", ""),
        variant("ListSecretVersionV2", "", get.clone(), "/v2/secret/{}/version", ""),
        variant("PostSecretVersionV2", "", post, "/v2/secret/{}/version", r#"{"data":{}}"#),
        variant(
            "PutNewSecretVersionV2",
            "",
            put.clone(),
            "/v2/secret/{}/version",
            r#"{"data":{}}"#,
        ),
        variant("GetSecretVersionV2", "", get.clone(), "/v2/secret/{}/version/1", ""),
        variant(
            "GetSecretVersionV2",
            "includeData",
            get.clone(),
            "/v2/secret/{}/version/1?includeData=true",
            "",
        ),
        variant(
            "PutSecretVersionV2",
            "active",
            put.clone(),
            "/v2/secret/{}/version/1",
            r#"{"state":"active"}"#,
        ),
        variant(
            "PutSecretVersionV2",
            "deactivated",
            put.clone(),
            "/v2/secret/{}/version/1",
            r#"{"state":"deactivated"}"#,
        ),
        variant(
            "PutSecretVersionV2",
            "deleted",
            put.clone(),
            "/v2/secret/{}/version/1",
            r#"{"state":"deleted"}"#,
        ),
        variant("GetSecretConfigV2", "", get, "/v2/secretConfig", ""),
        variant("PutSecretConfigV2", "", put, "/v2/secretConfig", r#"{"maxVersions":7}"#),
    ]
    .into_iter()
    .chain(kv2_variants())
    .collect()
}

fn kv2_variants() -> Vec<Variant> {
    let variant =
        |operation, what, method, address, body| Variant { operation, what, method, address, body };
    let (get, post, patch) = (Method::GET, Method::POST, Method::PATCH);
    let (data, metadata) = ("/v1/secret/data/{}", "/v1/secret/metadata/{}");
    let versions = r#"{"versions":[1]}"#;
    let settings = r#"{"max_versions":9}"#;
    vec![
        variant("GetSecretConfig", "", get.clone(), "/v1/secret/config", ""),
        variant("PostSecretConfig", "", post.clone(), "/v1/secret/config", settings),
        variant("GetSecretRequest", "", get.clone(), data, ""),
        variant("PostSecretRequest", "of a secret", post.clone(), data, r#"{"data":{}}"#),
        variant(
            "PostSecretRequest",
            "where there is none",
            post.clone(),
            "/v1/secret/data/{}/new",
            r#"{"data":{}}"#,
        ),
        variant("PatchSecretRequest", "", patch.clone(), data, r#"{"data":{"a":1}}"#),
        variant("DeleteSecretRequest", "", Method::DELETE, data, ""),
        variant("GetSecretSubkeys", "", get.clone(), "/v1/secret/subkeys/{}", ""),
        variant("DeleteSecretVersions", "", post.clone(), "/v1/secret/delete/{}", versions),
        variant("PostSecretUndelete", "", post.clone(), "/v1/secret/undelete/{}", versions),
        variant("PutSecretDestroy", "", Method::PUT, "/v1/secret/destroy/{}", versions),
        variant("ListSecretsMetadata", "", get.clone(), "/v1/secret/metadata", ""),
        variant("GetSecretsMetadata", "", get.clone(), metadata, ""),
        variant("GetSecretsMetadata", "list", get.clone(), "/v1/secret/metadata/t?list=true", ""),
        variant("PostSecretMetadata", "of a secret", post.clone(), metadata, settings),
        variant(
            "PostSecretMetadata",
            "where there is none",
            post,
            "/v1/secret/metadata/{}/new",
            settings,
        ),
        variant("PatchSecretMetadata", "", patch, metadata, settings),
        variant("DeleteSecretMetadata", "", Method::DELETE, metadata, ""),
        variant("ListServiceKeys", "", get, "/v1/servicekey", ""),
    ]
    .into_iter()
    .chain(vault_variants())
    .collect()
}

/// What clients of Vault ask beside secrets; none of it needs an action.
fn vault_variants() -> impl Iterator<Item = Variant> {
    let (get, post) = (Method::GET, Method::POST);
    [
        ("GetTokenLookupSelf", get.clone(), "/v1/auth/token/lookup-self"),
        ("PostTokenRenewSelf", post.clone(), "/v1/auth/token/renew-self"),
        ("PostTokenRevokeSelf", post.clone(), "/v1/auth/token/revoke-self"),
        ("PostCertLogin", post, "/v1/auth/cert/login"),
        ("ListInternalUiMounts", get.clone(), "/v1/sys/internal/ui/mounts"),
        ("GetInternalUiMount", get.clone(), "/v1/sys/internal/ui/mounts/secret"),
        ("ListMounts", get.clone(), "/v1/sys/mounts"),
        ("GetMount", get.clone(), "/v1/sys/mounts/secret"),
        ("GetHealth", get.clone(), "/v1/sys/health"),
        ("GetSealStatus", get.clone(), "/v1/sys/seal-status"),
        ("GetInit", get.clone(), "/v1/sys/init"),
        ("GetLeader", get, "/v1/sys/leader"),
    ]
    .into_iter()
    .map(|(operation, method, address)| Variant {
        operation,
        what: "",
        method,
        address,
        body: "",
    })
}

/// Lists of a policy, each with its actions.
type Permissions<'a> = Vec<(&'a str, Vec<&'a str>)>;

/// Everybody whose rights are in the table, with a client.
async fn callers(server: &Server, domain: &Domain) -> Vec<(String, Client)> {
    let foreign = server.domain().await;
    let mut callers = vec![
        ("no certificate".to_owned(), server.client(None)),
        ("root of another domain".to_owned(), foreign.client),
        ("root".to_owned(), domain.client.clone()),
    ];
    let here = [resource(domain.okms_id, "")];
    let elsewhere = [resource(foreign.okms_id, "")];
    let secrets = [resource(domain.okms_id, "/secret/*")];
    let all: &[&str] = &["*"];
    let mut others: Vec<(String, &[String], Permissions<'_>)> = vec![
        ("no policy".to_owned(), &here, Vec::new()),
        ("all".to_owned(), &here, vec![("allow", all.to_vec())]),
        ("all in another domain".to_owned(), &elsewhere, vec![("allow", all.to_vec())]),
        ("all on secrets only".to_owned(), &secrets, vec![("allow", all.to_vec())]),
        (
            "deny over allow".to_owned(),
            &here,
            vec![("allow", all.to_vec()), ("deny", all.to_vec())],
        ),
        (
            "all except all".to_owned(),
            &here,
            vec![("allow", all.to_vec()), ("except", all.to_vec())],
        ),
        (
            "all except getData".to_owned(),
            &here,
            vec![("allow", all.to_vec()), ("except", vec![super::GET_DATA])],
        ),
        ("get and getData".to_owned(), &here, vec![("allow", vec![super::GET, super::GET_DATA])]),
        (
            "version/create and updateMetadata".to_owned(),
            &here,
            vec![(
                "allow",
                vec!["okms:apikms:secret/version/create", "okms:apikms:secret/updateMetadata"],
            )],
        ),
    ];
    for action in Action::ALL {
        others.push((short(action.as_str()), &here, vec![("allow", vec![action.as_str()])]));
    }
    for (index, (name, resources, permissions)) in others.into_iter().enumerate() {
        let urn = user(&index.to_string());
        if !permissions.is_empty() {
            let permissions: Vec<_> =
                permissions.iter().map(|(list, actions)| (*list, actions.as_slice())).collect();
            apply(server, &format!("p{index}"), &urn, resources, &permissions).await;
        }
        callers.push((name, client_of(server, domain.okms_id, &[&urn]).await));
    }
    // Root, whom a policy tries to hold back.
    let denied = ["urn:v1:eu:identity:account:denied", &user("denied")];
    for (index, urn) in denied.into_iter().enumerate() {
        apply(server, &format!("denied{index}"), urn, &here, &[("deny", all)]).await;
    }
    callers
        .push(("root under a deny".to_owned(), client_of(server, domain.okms_id, &denied).await));
    callers
}

/// What comes of an operation on a secret of its own. Who is denied sees the same where there is no
/// such secret.
async fn try_out(client: &Client, domain: &Domain, variant: &Variant, path: &str) -> String {
    domain.create(path, r#"{"password":"CANARY"}"#).await;
    let answer = ask(client, domain, variant, path).await;
    if answer.status == 403 {
        let text = answer.error(403, FORBIDDEN);
        let missing = ask(client, domain, variant, "no/such/secret").await;
        // Who may make a secret, or may add a version, learns which of both it would be.
        let may_one_of_both = variant.operation == "PostSecretRequest" && missing.status != 403;
        if !may_one_of_both {
            assert_eq!(missing.text_without_request_id(), answer.text_without_request_id());
            assert_eq!(missing.status, answer.status);
        }
        let action =
            text.strip_prefix("not allowed: ").and_then(|text| text.strip_suffix(" is needed"));
        let action = action.unwrap_or_else(|| panic!("{text}"));
        let before = domain.client.get(&domain.secret(&format!("{path}?includeData=true"))).await;
        assert_eq!(before.ok()["version"]["data"]["password"], "CANARY", "nothing was done");
        return format!("403, needs {}", short(action));
    }
    let mut result = answer.status.to_string();
    if answer.text().contains("CANARY") {
        result.push_str(" with data");
    }
    if variant.operation == "ListSecretV2" && answer.status == 200 {
        result.push_str(if answer.text() == "[]" { " nothing" } else { " secrets" });
    }
    if variant.operation == "ListSecretsMetadata" && answer.status == 200 {
        result.push_str(if answer.text().contains("[]") { " nothing" } else { " names" });
    }
    result
}

async fn ask(client: &Client, domain: &Domain, variant: &Variant, path: &str) -> Answer {
    let address = format!("/api/{}{}", domain.okms_id, variant.address.replace("{}", path));
    let body = variant.body.replace("{}/new", &format!("{path}/new"));
    client.json(variant.method.clone(), &address, body).await
}

fn short(action: &str) -> String {
    action.replace("okms:apikms:", "")
}

fn wrapped(names: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() < 90 => {
                line.push_str(", ");
                line.push_str(name);
            }
            _ => lines.push((*name).to_owned()),
        }
    }
    lines
}

const HEAD: &str = "\
What each operation answers to whom. A name of an action stands for a caller whose only policy allows
that one action in the domain. Written by the test beside it; read each change before it is committed.
";
