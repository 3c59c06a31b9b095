//! Secrets of all kinds, and what the API says of all secrets of a domain.

use serde_json::{Value, json};

use crate::support::Domain;

/// Makes secrets of all kinds, all of whose versions are active or deleted.
pub async fn furnish(domain: &Domain) {
    domain
        .create("a", r#"{"z":1.10,"a":[1e3,{"é":"\u0001\"\\"}],"n":12345678901234567890123}"#)
        .await;
    for _ in 0..3 {
        domain.add_version("a").await;
    }
    deleted(domain, "a", 2).await;
    // All settings, and versions that were pruned.
    let settings = r#""metadata":{"casRequired":true,"maxVersions":3,
        "deactivateVersionAfter":"7d1h","customMetadata":{"team":"x","a.b":"1%2F"}}"#;
    let body = format!(r#"{{"path":"prod/b",{settings},"version":{{"data":{{"n":1}}}}}}"#);
    domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    for number in 1..7 {
        let address = domain.secret(&format!("prod/b/version?cas={number}"));
        domain.client.post(&address, format!(r#"{{"data":{{"n":{number}.0}}}}"#)).await.ok();
    }
    deleted(domain, "prod/b", 6).await;
    // More than it keeps, as that was changed after they were written.
    domain.create("prod/b/below", "{}").await;
    domain.add_version("prod/b/below").await;
    domain
        .client
        .put(&domain.secret("prod/b/below"), r#"{"metadata":{"maxVersions":1}}"#)
        .await
        .ok();
    // More than a new secret keeps.
    let body = r#"{"path":"prod/many","metadata":{"maxVersions":20},"version":{"data":{"k":0}}}"#;
    domain.client.post(&format!("{}/secret", domain.base), body).await.ok();
    for _ in 0..14 {
        domain.add_version("prod/many").await;
    }
    deleted(domain, "prod/many", 15).await;
    // Paths that look like something else.
    for path in ["prod/x=y@z:1", "prod-2", "prod/b/version/2", "prod/b-c", "..."] {
        domain.create(path, &format!(r#"{{"path":"{path}"}}"#)).await;
    }
    // No version.
    let body = r#"{"max_versions":4,"custom_metadata":{"k":"v"}}"#;
    let made = domain.client.post(&domain.kv("metadata/prod/empty"), body).await;
    assert_eq!(made.status, 204, "{}", made.text());
}

async fn deleted(domain: &Domain, path: &str, version: u32) {
    domain.set_state(path, version, "deleted").await.ok();
}

/// All that the API says of the secrets of a domain, but for times and names of the domain.
pub async fn all_of(domain: &Domain) -> Vec<Value> {
    let mut secrets = Vec::new();
    let mut cursor = String::new();
    loop {
        let headers = [("x-pagination-cursor", cursor.as_str())];
        let page = domain.client.page(&format!("{}/secret", domain.base), &headers).await;
        for secret in page.ok().as_array().expect("a list") {
            let path = secret["path"].as_str().expect("a path");
            let mut metadata = secret["metadata"].clone();
            for field in ["createdAt", "updatedAt", "urn"] {
                metadata.as_object_mut().expect("an object").remove(field);
            }
            secrets.push(json!({
                "path": path, "metadata": metadata, "versions": versions(domain, path).await,
            }));
        }
        match page.header("x-pagination-cursor-next") {
            Some(next) => cursor = next.to_owned(),
            None => return secrets,
        }
    }
}

async fn versions(domain: &Domain, path: &str) -> Vec<Value> {
    let path = path.replace('/', "%2F");
    let mut versions = Vec::new();
    for number in domain.versions(&path).await {
        let address = domain.secret(&format!("{path}/version/{number}?includeData=true"));
        let answer = domain.client.get(&address).await;
        let text = answer.text();
        // To the letter.
        let data = text.split_once(r#""data":"#).map(|(_, data)| data.to_owned());
        versions.push(json!({"id": number, "state": answer.ok()["state"], "data": data}));
    }
    versions
}

/// The same below another path.
pub fn moved(secrets: &[Value], from: &str, to: &str) -> Vec<Value> {
    let mut moved: Vec<_> = secrets
        .iter()
        .filter_map(|secret| {
            let path = secret["path"].as_str().expect("a path");
            let below = path.strip_prefix(from)?;
            (below.is_empty() || below.starts_with('/')).then(|| {
                let mut secret = secret.clone();
                secret["path"] = json!(format!("{to}{below}"));
                secret
            })
        })
        .collect();
    moved.sort_by_key(|secret| secret["path"].as_str().expect("a path").to_owned());
    moved
}
