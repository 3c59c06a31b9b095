//! Rights: who may do what, by which policy, and from when on.

mod changes;
mod damage;
mod escapes;
mod late;
mod listing;
mod table;
mod trail;
mod turns;
mod waiting;

use okmsd::{
    domain::{IdentityUrn, OkmsId},
    pki::AccessKey,
    service::{NewCredential, Policies},
};
use serde_json::{Value, json};

use crate::support::{Client, Domain, Server};

/// What operators do with policies and groups of a server's store.
fn policies(server: &Server) -> Policies {
    Policies::new(server.store.clone(), server.clock.clone())
}

/// The URN of a user.
pub fn user(name: &str) -> String {
    format!("urn:v1:eu:identity:user:test/{name}")
}

fn identity(urn: &str) -> IdentityUrn {
    IdentityUrn::parse(urn).expect("an identity")
}

/// The URN of a domain, and what stands below it.
pub fn resource(okms_id: OkmsId, below: &str) -> String {
    format!("urn:v1:eu:resource:okms:{okms_id}{below}")
}

/// A client whose credential acts for these identities.
pub async fn client_of(server: &Server, okms_id: OkmsId, identities: &[&str]) -> Client {
    let (certificate, key) = identified(server, okms_id, identities).await;
    server.client(Some((&certificate, &key)))
}

/// Certificate and key of a credential that acts for these identities.
pub async fn identified(server: &Server, okms_id: OkmsId, identities: &[&str]) -> (String, String) {
    let new = NewCredential {
        okms_id,
        name: "test".to_owned(),
        description: String::new(),
        identity_urns: identities.iter().map(|urn| (*urn).to_owned()).collect(),
        validity_days: 365,
        key: AccessKey::Ecdsa,
    };
    let issued = server.credentials.create(&server.authority, new).await.expect("a credential");
    let key = issued.private_key_pem.expect("a key");
    (issued.credential.certificate_pem, key.to_string())
}

/// Applies a policy for one identity; permissions are lists of actions.
pub async fn apply(
    server: &Server,
    name: &str,
    identity: &str,
    resources: &[String],
    permissions: &[(&str, &[&str])],
) {
    let resources: Vec<_> = resources.iter().map(|urn| json!({"urn": urn})).collect();
    let lists = permissions.iter().map(|(list, actions)| {
        let actions: Value = actions.iter().map(|action| json!({"action": action})).collect();
        ((*list).to_owned(), actions)
    });
    let permissions: serde_json::Map<_, _> = lists.collect();
    let document = json!({
        "name": name,
        "identities": [identity],
        "resources": resources,
        "permissions": permissions,
    });
    policies(server).apply(&document.to_string()).await.expect("a policy");
}

/// The paths of a list, read by pages of this size.
async fn paths(client: &Client, domain: &Domain, size: usize) -> Vec<Vec<String>> {
    let (size, mut cursor, mut pages) = (size.to_string(), None::<String>, Vec::new());
    loop {
        let mut headers = vec![("x-pagination-size", size.as_str())];
        headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
        let answer = client.page(&domain.secret(""), &headers).await;
        let page = answer.ok().as_array().expect("a list").clone();
        let text = |item: &Value| item["path"].as_str().expect("a path").to_owned();
        pages.push(page.iter().map(text).collect());
        match answer.header("x-pagination-cursor-next") {
            Some(next) => cursor = Some(next.to_owned()),
            None => return pages,
        }
        assert!(pages.len() < 100, "an endless list");
    }
}

pub const GET: &str = "okms:apikms:secret/get";
pub const GET_DATA: &str = "okms:apikms:secret/version/getData";
