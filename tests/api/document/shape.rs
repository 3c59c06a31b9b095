//! What a reader of the document finds in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{document, operations};

/// Method, path below the domain, operation id, IAM actions: those of the service, and one more that
/// its user guide writes.
const OPERATIONS: [(&str, &str, &str, &[&str]); 28] = [
    ("GET", "/v2/secret", "ListSecretV2", &["secret/get"]),
    ("POST", "/v2/secret", "PostSecretV2", &["secret/create"]),
    ("GET", "/v2/secret/{path}", "GetSecretV2", &["secret/get", "secret/version/getData"]),
    (
        "PUT",
        "/v2/secret/{path}",
        "PutSecretV2",
        &["secret/version/create", "secret/updateMetadata"],
    ),
    ("DELETE", "/v2/secret/{path}", "DeleteSecretV2", &["secret/delete"]),
    ("GET", "/v2/secret/{path}/version", "ListSecretVersionV2", &["secret/get"]),
    ("POST", "/v2/secret/{path}/version", "PostSecretVersionV2", &["secret/version/create"]),
    ("PUT", "/v2/secret/{path}/version", "PutNewSecretVersionV2", &["secret/version/create"]),
    (
        "GET",
        "/v2/secret/{path}/version/{version}",
        "GetSecretVersionV2",
        &["secret/get", "secret/version/getData"],
    ),
    (
        "PUT",
        "/v2/secret/{path}/version/{version}",
        "PutSecretVersionV2",
        &["secret/version/delete", "secret/version/activate", "secret/version/deactivate"],
    ),
    ("GET", "/v2/secretConfig", "GetSecretConfigV2", &["secretConfig/get"]),
    ("PUT", "/v2/secretConfig", "PutSecretConfigV2", &["secretConfig/update"]),
    ("GET", "/v1/secret/config", "GetSecretConfig", &["secretConfig/get"]),
    ("POST", "/v1/secret/config", "PostSecretConfig", &["secretConfig/update"]),
    (
        "POST",
        "/v1/secret/data/{path}",
        "PostSecretRequest",
        &["secret/create", "secret/version/create"],
    ),
    ("GET", "/v1/secret/data/{path}", "GetSecretRequest", &["secret/version/getData"]),
    ("PATCH", "/v1/secret/data/{path}", "PatchSecretRequest", &["secret/version/create"]),
    ("DELETE", "/v1/secret/data/{path}", "DeleteSecretRequest", &["secret/version/deactivate"]),
    ("GET", "/v1/secret/subkeys/{path}", "GetSecretSubkeys", &["secret/subKeys/get"]),
    ("POST", "/v1/secret/delete/{path}", "DeleteSecretVersions", &["secret/version/deactivate"]),
    ("POST", "/v1/secret/undelete/{path}", "PostSecretUndelete", &["secret/version/activate"]),
    ("PUT", "/v1/secret/destroy/{path}", "PutSecretDestroy", &["secret/version/delete"]),
    ("GET", "/v1/secret/metadata", "ListSecretsMetadata", &["secret/get"]),
    ("GET", "/v1/secret/metadata/{path}", "GetSecretsMetadata", &["secret/get"]),
    ("POST", "/v1/secret/metadata/{path}", "PostSecretMetadata", &["secret/updateMetadata"]),
    ("PATCH", "/v1/secret/metadata/{path}", "PatchSecretMetadata", &["secret/updateMetadata"]),
    ("DELETE", "/v1/secret/metadata/{path}", "DeleteSecretMetadata", &["secret/delete"]),
    // Those that need no action.
    ("GET", "/v1/servicekey", "ListServiceKeys", &[]),
];

#[test]
fn the_operations_are_those_of_the_service() {
    let found: BTreeSet<_> = operations()
        .iter()
        .filter(|operation| !operation.is_of_vault())
        .map(|operation| {
            let path = operation.path.strip_prefix("/api/{okmsId}").expect("the base");
            let actions: Vec<_> = operation
                .actions()
                .iter()
                .map(|action| action.strip_prefix("okms:apikms:"))
                .map(|action| action.expect("an action of the API").to_owned())
                .collect();
            let method = operation.method.to_string();
            (method, path.to_owned(), operation.id().to_owned(), actions)
        })
        .collect();
    let expected = OPERATIONS.map(|(method, path, id, actions)| {
        let actions: Vec<_> = actions.iter().map(|action| (*action).to_owned()).collect();
        (method.to_owned(), path.to_owned(), id.to_owned(), actions)
    });
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn the_document_says_what_it_is() {
    let document = document();
    let version = document["openapi"].as_str().expect("a version");
    assert!(version.starts_with("3.1."), "{version}");
    let info = document["info"].as_object().expect("info");
    assert_eq!(info.keys().collect::<Vec<_>>(), ["title", "description", "version"]);
    assert!(info.values().all(|text| text.as_str().is_some_and(|text| !text.is_empty())));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let one_of = json!([
        {"clientCertificate": []}, {"personalAccessToken": []}, {"vaultToken": []}
    ]);
    assert_eq!(document["security"], one_of);
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes.as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(schemes["clientCertificate"]["type"], "mutualTLS");
    assert_eq!(schemes["personalAccessToken"]["type"], "http");
    assert_eq!(schemes["personalAccessToken"]["scheme"], "bearer");
    assert_eq!(schemes["vaultToken"]["type"], "apiKey");
    assert_eq!(schemes["vaultToken"]["in"], "header");
    assert_eq!(schemes["vaultToken"]["name"], "X-Vault-Token");
    // The kept document is of no particular server.
    assert_eq!(document.get("servers"), None);
    assert!(!document.to_string().contains("\"license\""));
}

/// The operations that make a version, and may be asked to do so once.
const MAKE_VERSIONS: [&str; 6] = [
    "PostSecretV2",
    "PutSecretV2",
    "PostSecretVersionV2",
    "PutNewSecretVersionV2",
    "PostSecretRequest",
    "PatchSecretRequest",
];

#[test]
fn every_operation_is_described_and_says_how_it_fails() {
    let document = document();
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let (id, value) = (operation.id(), &operation.value);
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(value["summary"].as_str().is_some_and(|text| !text.is_empty()), "{id}");
        let responses = value["responses"].as_object().expect("responses");
        let mut statuses = vec!["400", "401", "403", "404", "429", "500", "503"];
        if operation.body_schema().is_some() {
            statuses.extend(["408", "413", "415"]);
        }
        let is_once = operation.value["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|parameter| parameter["name"] == "Idempotency-Key");
        assert_eq!(is_once, MAKE_VERSIONS.contains(&id), "{id}");
        if is_once {
            statuses.extend(["409", "422"]);
        }
        if ["DeleteSecretV2", "DeleteSecretMetadata"].contains(&id) {
            // It takes no body, and waits to see that there is none.
            statuses.push("408");
        }
        statuses.extend(match id {
            "PostSecretMetadata" | "PatchSecretMetadata" => ["200", "204"].as_slice(),
            "DeleteSecretV2"
            | "PostSecretConfig"
            | "DeleteSecretRequest"
            | "DeleteSecretVersions"
            | "PostSecretUndelete"
            | "PutSecretDestroy"
            | "DeleteSecretMetadata"
            | "PostTokenRevokeSelf" => &["204"],
            _ => &["200"],
        });
        let found: BTreeSet<_> = responses.keys().map(String::as_str).collect();
        assert_eq!(found, statuses.into_iter().collect(), "{id}");
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id}");
            let schema = &response["content"]["application/json"]["schema"];
            if status.starts_with('2') {
                continue;
            }
            let name = match (id, status.as_str()) {
                ("GetSecretRequest", "404") => "GetErrorResponseWithMetadata",
                ("GetSecretSubkeys", "404") => "GetSubkeysErrorResponseWithMetadata",
                ("PatchSecretRequest", "404") => "PatchErrorResponseWithMetadata",
                _ => "ErrorResponse",
            };
            assert_eq!(schema["$ref"], format!("#/components/schemas/{name}"), "{id} {status}");
        }
        assert_eq!(value["tags"].as_array().map(Vec::len), Some(1), "{id}");
        let tags = document["tags"].as_array().expect("tags");
        assert!(tags.iter().any(|tag| tag["name"] == value["tags"][0]), "{id}");
    }
}

#[test]
fn every_parameter_is_described_and_bounded() {
    let mut seen = BTreeMap::new();
    for operation in operations() {
        let parameters = operation.value["parameters"].as_array().expect("parameters");
        let mut in_path = operation.path.matches('{').count();
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a name");
            let place = format!("{} {name}", operation.id());
            assert!(parameter["description"].is_string(), "{place}");
            assert!(parameter["schema"]["type"].is_string(), "{place} may be null");
            assert_eq!(parameter["required"], parameter["in"] == "path", "{place}");
            in_path -= usize::from(parameter["in"] == "path");
            // KV2 takes 0 for a version that is not named.
            let set = operation.path.split('/').nth(3).expect("a version of the API");
            let key = if name == "version" { format!("{set} {name}") } else { name.to_owned() };
            seen.insert(key, parameter["schema"].clone());
        }
        assert_eq!(in_path, 0, "{}", operation.id());
    }
    for (name, bounds) in [
        ("okmsId", json!({"type": "string", "format": "uuid"})),
        ("v2 version", json!({"type": "integer", "minimum": 1, "maximum": 24_000})),
        ("v1 version", json!({"type": "integer", "minimum": 0})),
        ("depth", json!({"type": "integer", "minimum": 0})),
        ("list", json!({"type": "boolean", "default": false})),
        ("cas", json!({"type": "integer", "minimum": 0, "maximum": 24_000})),
        ("includeData", json!({"type": "boolean", "default": false})),
        (
            "X-Pagination-Size",
            json!({"type": "integer", "minimum": 10, "maximum": 500, "default": 100}),
        ),
        ("X-Pagination-Cursor", json!({"type": "string"})),
        (
            "Idempotency-Key",
            json!({"type": "string", "pattern": r#"^"([ !#-\[\]-~]|\\["\\]){1,255}"$"#}),
        ),
        ("mount", json!({"type": "string"})),
        ("path", json!({"type": "string", "pattern": "^[a-zA-Z0-9_.:/=@%-]+$"})),
    ] {
        for (keyword, expected) in bounds.as_object().expect("bounds") {
            assert_eq!(&seen[name][keyword], expected, "{name}");
        }
    }
    assert_eq!(seen.len(), 12, "{:?}", seen.keys());
}

#[test]
fn every_schema_is_used_and_described() {
    let document = document();
    let text = document.to_string();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let reference = format!("\"#/components/schemas/{name}\"");
        assert!(text.contains(&reference), "{name} is used nowhere");
        assert!(schema["description"].is_string(), "{name}");
    }
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let required = |name: &str| -> BTreeSet<String> {
        let names = schema(name)["required"].as_array().cloned().unwrap_or_default();
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(required("PostSecretV2Request"), set(&["path", "version"]));
    assert_eq!(required("PutSecretV2Request"), set(&[]));
    assert_eq!(required("PostSecretVersionV2Request"), set(&["data"]));
    assert_eq!(required("PutSecretVersionV2Request"), set(&["state"]));
    assert_eq!(required("PutSecretConfigV2Request"), set(&[]));
    assert_eq!(required("GetSecretV2Response"), set(&["path", "metadata"]));
    assert_eq!(required("PostSecretRequest"), set(&["data"]));
    assert_eq!(required("PatchSecretRequest"), set(&["data"]));
    let envelope = ["request_id", "lease_id", "renewable", "lease_duration", "data"];
    assert_eq!(required("PostSecretResponse"), set(&envelope));
    assert_eq!(schema("SecretV2State")["enum"], json!(["active", "deactivated", "deleted"]));
    let path = &schema("PostSecretV2Request")["properties"]["path"];
    assert_eq!(path["pattern"], "^[a-zA-Z0-9_.:/=@-]+$");
    assert_eq!(path["minLength"], 1);
    assert_eq!(path["maxLength"], 255);
}

#[test]
fn every_request_body_has_an_example() {
    let document = document();
    for operation in operations() {
        if operation.body_schema().is_some() {
            assert_eq!(operation.value["requestBody"]["required"], true, "{}", operation.id());
            let example: Value = serde_json::from_str(&operation.example(&document)).expect("JSON");
            assert!(example.is_object(), "{}", operation.id());
        }
    }
}
