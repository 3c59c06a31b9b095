//! `/swagger/`: public on the listener of the documentation, authenticated on that of the API.

use serde_json::Value;

use crate::{
    codes::*,
    support::{Answer, Server, both_engines},
};

both_engines!(
    the_public_page_is_shown_to_anyone_and_links_to_the_authenticated_one,
    the_public_page_cannot_send_requests,
    the_public_listener_has_no_api,
    the_authenticated_page_needs_the_certificate,
    all_that_the_pages_need_is_on_this_server,
);

const FILES: [&str; 5] = [
    "swagger-initializer.js",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "index.css",
];

async fn the_public_page_is_shown_to_anyone_and_links_to_the_authenticated_one(server: Server) {
    let docs = server.docs_client();
    for path in ["/", "/swagger"] {
        let answer = docs.get(path).await;
        assert_eq!(answer.status, 307);
        assert_eq!(answer.header("location"), Some("/swagger/"));
    }
    let page = docs.get("/swagger/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").expect("a type").starts_with("text/html"));
    assert!(page.text().contains("id=\"swagger-ui\""), "{}", page.text());
    let document = docs.get("/swagger/openapi.json").await.ok();
    let description = document["info"]["description"].as_str().expect("a description");
    let link = format!("]({}/swagger/)", server.api_url);
    assert!(description.contains(&link), "{description}");
    assert_eq!(document["servers"][0]["url"], server.api_url);
    // Otherwise it is the document that is kept in the repository.
    check_same_operations(&document);
}

fn check_same_operations(document: &Value) {
    let kept: Value =
        serde_json::from_str(&okmsd::api::openapi().to_json().expect("JSON")).expect("JSON");
    assert_eq!(document["paths"], kept["paths"]);
    assert_eq!(document["components"], kept["components"]);
}

async fn the_public_page_cannot_send_requests(server: Server) {
    let docs = server.docs_client();
    let setup = docs.get("/swagger/swagger-initializer.js").await;
    assert_eq!(setup.status, 200);
    let setup: String = setup.text().split_whitespace().collect();
    assert!(setup.contains(r#""supportedSubmitMethods":[]"#), "{setup}");
    assert!(!setup.contains(r#""tryItOutEnabled":true"#), "{setup}");
    check_policy(&docs.get("/swagger/").await);
}

/// Nothing but files of this server, and no script in the page itself.
#[track_caller]
fn check_policy(page: &Answer) {
    let policy = page.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'"] {
        assert!(policy.split("; ").any(|found| found == part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    // So the page must do without what the policy forbids.
    let text = page.text();
    for (start, _) in text.match_indices("<script") {
        let tag = &text[start..start + text[start..].find('>').expect("an end")];
        assert!(tag.contains("src="), "{tag}");
    }
    assert!(!text.contains("<style") && !text.contains(" style="), "{text}");
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
}

async fn the_public_listener_has_no_api(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let anonymous = server.docs_client();
    let known = crate::support::Client::new(&server.docs_url, domain.tls(&server));
    for client in [anonymous, known] {
        for address in [
            domain.secret("a"),
            domain.secret(""),
            format!("{}/secretConfig", domain.base),
            format!("/v2/okms/resource/{}/secret/a", domain.okms_id),
            "/api".to_owned(),
        ] {
            client.get(&address).await.error(404, ROUTE_NOT_FOUND);
            client.put(&address, "{}").await.error(404, ROUTE_NOT_FOUND);
            client.delete(&address).await.error(404, ROUTE_NOT_FOUND);
        }
        client.post("/swagger/", "{}").await.error(405, METHOD_NOT_ALLOWED);
    }
}

async fn the_authenticated_page_needs_the_certificate(server: Server) {
    let domain = server.domain().await;
    let nobody = server.client(None);
    let mut paths = vec!["/swagger/".to_owned(), "/swagger/openapi.json".to_owned()];
    paths.extend(FILES.map(|file| format!("/swagger/{file}")));
    for path in &paths {
        nobody.get(path).await.error(401, UNAUTHENTICATED);
        let answer = domain.client.get(path).await;
        assert_eq!(answer.status, 200, "{path} {}", answer.text());
    }
    check_policy(&domain.client.get("/swagger/").await);
    let document = domain.client.get("/swagger/openapi.json").await.ok();
    // Under whichever name the browser reached the page.
    assert_eq!(document["servers"][0]["url"], "/");
    // The only thing that differs: the caller's own domain is filled in.
    let filled = format!(r#","example":"{}""#, domain.okms_id);
    let text = document.to_string();
    let paths = document["paths"].as_object().expect("paths");
    let methods = ["get", "put", "post", "delete", "patch"];
    let operations: usize = paths
        .values()
        .map(|path| methods.iter().filter(|method| path.get(method).is_some()).count())
        .sum();
    assert_eq!(text.matches(&filled).count(), operations, "once for each operation");
    check_same_operations(&serde_json::from_str(&text.replace(&filled, "")).expect("JSON"));
    let setup = domain.client.get("/swagger/swagger-initializer.js").await.text();
    let setup: String = setup.split_whitespace().collect();
    assert!(setup.contains(r#""tryItOutEnabled":true"#), "{setup}");
    assert!(!setup.contains("supportedSubmitMethods"), "{setup}");
}

async fn all_that_the_pages_need_is_on_this_server(server: Server) {
    let docs = server.docs_client();
    for file in FILES {
        let answer = docs.get(&format!("/swagger/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        let declared = answer.header("content-type").expect("a type");
        let expected = if file.ends_with(".css") { "text/css" } else { "javascript" };
        assert!(declared.contains(expected), "{file} {declared}");
    }
    let setup = docs.get("/swagger/swagger-initializer.js").await.text();
    assert!(!setup.contains("https://") && !setup.contains("http://"), "{setup}");
    for other in ["/swagger/x.js", "/swagger/a/b", "/swagger/%2e%2e%2fCargo.toml"] {
        docs.get(other).await.error(404, ROUTE_NOT_FOUND);
    }
}
