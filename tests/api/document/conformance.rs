//! What the document says is what the server does: its examples are taken, and answers have the form
//! that it gives them.

use serde_json::Value;

use super::{EXAMPLE_PATH, Operation, document, operations, resolve};
use crate::support::{Answer, Domain, Server, both_engines};

both_engines!(
    every_documented_example_is_taken_and_answered_as_documented,
    errors_have_their_documented_form,
    answers_with_data_and_warnings_have_their_documented_form,
);

async fn every_documented_example_is_taken_and_answered_as_documented(server: Server) {
    let document = document();
    for operation in operations() {
        // A domain of its own: an example may set what another one must heed.
        let domain = server.domain().await;
        if matches!(operation.id(), "PostTokenRenewSelf" | "PostTokenRevokeSelf") {
            // These need a token; a test beside this one has it.
            continue;
        }
        if operation.id() != "PostSecretV2" {
            domain.create(EXAMPLE_PATH, r#"{"login":"admin"}"#).await;
        }
        let answer = ask(&document, &domain, &operation).await;
        let expected = if operation.value["responses"].get("204").is_some() { 204 } else { 200 };

        assert_eq!(answer.status, expected, "{} {}", operation.id(), answer.text());
        check_documented(&document, &operation, &answer);
        if let Some(warnings) = answer.text().replace("\"warnings\":null", "").find("warnings") {
            panic!("{}: an example with {}", operation.id(), &answer.text()[warnings..]);
        }
    }
}

async fn errors_have_their_documented_form(server: Server) {
    let document = document();
    let (domain, foreign) = (server.domain().await, server.domain().await);
    for operation in operations() {
        let address = operation.address(&foreign.okms_id.to_string());
        let method = operation.method.clone();
        let body = operation.example(&document);
        check_documented(
            &document,
            &operation,
            &domain.client.json(method.clone(), &address, &body).await,
        );
        check_documented(
            &document,
            &operation,
            &server.client(None).json(method.clone(), &address, body).await,
        );
        let address = operation.address("no-uuid");
        check_documented(
            &document,
            &operation,
            &domain.client.json(method.clone(), &address, "{").await,
        );
        if operation.body_schema().is_some() {
            let address = operation.address(&domain.okms_id.to_string());
            for answer in [
                domain.client.send(method.clone(), &address, &[], bytes::Bytes::new()).await,
                domain.client.json(method, &address, "x".repeat(600_000)).await,
            ] {
                assert!(matches!(answer.status, 413 | 415), "{}", answer.text());
                check_documented(&document, &operation, &answer);
            }
        }
    }
    let create = operation("PostSecretV2");
    domain.create(EXAMPLE_PATH, "{}").await;
    let answer = ask(&document, &domain, &create).await;
    assert_eq!(answer.status, 409);
    check_documented(&document, &create, &answer);
}

async fn answers_with_data_and_warnings_have_their_documented_form(server: Server) {
    let document = document();
    let domain = server.domain().await;
    let body = format!(
        r#"{{"path":"{EXAMPLE_PATH}","version":{{"data":{{"n":[1,{{}}]}}}},"typo":1,
            "metadata":{{"customMetadata":{{"project":"A"}},"maxVersions":2}}}}"#
    );
    let made = domain.client.post(&domain.secret(""), body).await;
    check_documented(&document, &operation("PostSecretV2"), &made);
    let address = domain.secret(EXAMPLE_PATH);
    let put = domain.client.put(&address, r#"{"version":{"data":{}},"typo":1}"#).await;
    check_documented(&document, &operation("PutSecretV2"), &put);
    let version = domain.client.post(&format!("{address}/version"), r#"{"data":{},"x":1}"#).await;
    check_documented(&document, &operation("PostSecretVersionV2"), &version);
    let config = format!("{}/secretConfig", domain.base);
    let put = domain.client.put(&config, r#"{"maxVersions":1,"typo":1}"#).await;
    check_documented(&document, &operation("PutSecretConfigV2"), &put);
    for answer in [&made, &put, &version] {
        assert!(answer.text().contains("warnings"), "{}", answer.text());
    }
    let kv = domain.client.post(&domain.kv("data/kv"), r#"{"cas":0,"data":{}}"#).await;
    check_documented(&document, &operation("PostSecretRequest"), &kv);
    let read = domain.client.get(&format!("{address}?includeData=true")).await;
    assert!(read.text().contains("data"), "{}", read.text());
    check_documented(&document, &operation("GetSecretV2"), &read);
    domain.set_state(EXAMPLE_PATH, 2, "deactivated").await.ok();
    domain.set_state(EXAMPLE_PATH, 3, "deleted").await.ok();
    for (id, rest) in [
        ("ListSecretVersionV2", "/version"),
        ("GetSecretVersionV2", "/version/2?includeData=true"),
        ("GetSecretV2", "?includeData=true"),
    ] {
        let answer = domain.client.get(&format!("{address}{rest}")).await;
        check_documented(&document, &operation(id), &answer);
    }
    let list = domain.client.get(&domain.secret("")).await;
    check_documented(&document, &operation("ListSecretV2"), &list);
}

fn operation(id: &str) -> Operation {
    operations().into_iter().find(|operation| operation.id() == id).expect("an operation")
}

async fn ask(document: &Value, domain: &Domain, operation: &Operation) -> Answer {
    let address = operation.address(&domain.okms_id.to_string());
    let body = operation.example(document);
    domain.client.json(operation.method.clone(), &address, body).await
}

/// Checks that an answer's status is documented and its body has the form that is documented for it.
#[track_caller]
pub(super) fn check_documented(document: &Value, operation: &Operation, answer: &Answer) {
    let response = operation.value["responses"].get(answer.status.to_string());
    let place = format!("{} {}", operation.id(), answer.status);
    let response = response.unwrap_or_else(|| panic!("{place} is not documented"));
    match response.get("content") {
        None => assert!(answer.body.is_empty(), "{place}: {}", answer.text()),
        Some(content) => {
            let content = content.as_object().expect("content");
            assert_eq!(content.keys().collect::<Vec<_>>(), ["application/json"]);
            let schema = &content["application/json"]["schema"];
            check_value(document, schema, &answer.value(), &place);
        }
    }
}

/// Checks a value against as much of JSON Schema as the document uses. Stricter in one thing: a field
/// that the schema does not name is an error, where it has names at all.
#[track_caller]
fn check_value(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolve(document, schema);
    for keyword in ["oneOf", "anyOf", "allOf"] {
        assert!(schema.get(keyword).is_none(), "{place}: answers need no {keyword}");
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_of_type = match &schema["type"] {
        Value::Array(types) => types.iter().any(|name| name == found),
        name => name == found,
    };
    assert!(is_of_type, "{place}: {value}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    }
    for (bound, holds) in [
        ("minimum", &(|value, bound| value >= bound) as &dyn Fn(u64, u64) -> bool),
        ("maximum", &|value, bound| value <= bound),
    ] {
        if let Some(bound) = schema[bound].as_u64() {
            assert!(holds(value.as_u64().expect("a number"), bound), "{place}: {value}");
        }
    }
    if schema["format"] == "date-time" {
        let text = value.as_str().expect("a text");
        // Whole seconds in v2, nanoseconds in v1.
        assert!(matches!(text.len(), 20 | 30) && text.ends_with('Z'), "{text}");
        assert!(text[10..].starts_with('T'), "{text}");
    }
    for item in value.as_array().into_iter().flatten() {
        check_value(document, &schema["items"], item, &format!("{place}[]"));
    }
    let Some(fields) = value.as_object() else { return };
    let properties = schema["properties"].as_object();
    for required in schema["required"].as_array().into_iter().flatten() {
        let name = required.as_str().expect("a name");
        assert!(fields.contains_key(name), "{place}.{name} is missing");
    }
    for (name, field) in fields {
        let place = format!("{place}.{name}");
        let additional = schema.get("additionalProperties");
        match (properties.and_then(|properties| properties.get(name)), additional, properties) {
            (Some(schema), _, _) | (None, Some(schema), _) => {
                check_value(document, schema, field, &place);
            }
            (None, None, Some(_)) => panic!("{place} is not documented"),
            // Data: any object.
            (None, None, None) => {}
        }
    }
}
