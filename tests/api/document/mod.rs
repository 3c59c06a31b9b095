//! The OpenAPI document: that it is kept in step, complete and true.

mod conformance;
mod coverage;
mod kept;
mod recorded;
mod shape;
mod vault;

use hyper::Method;
use okmsd::api::openapi;
use serde_json::Value;

/// An operation of the document.
pub struct Operation {
    method: Method,
    /// Such as `/api/{okmsId}/v2/secret/{path}`.
    path: String,
    /// What the document says of it.
    pub value: Value,
}

fn document() -> Value {
    serde_json::from_str(&openapi().to_json().expect("JSON")).expect("JSON")
}

pub fn operations() -> Vec<Operation> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, methods) in paths {
        for (method, value) in methods.as_object().expect("methods") {
            let method = method.to_uppercase().parse().expect("a method");
            operations.push(Operation { method, path: path.clone(), value: value.clone() });
        }
    }
    assert!(operations.len() >= 27, "{}", operations.len());
    operations
}

/// The path of the documented examples.
const EXAMPLE_PATH: &str = "prod/database/MySQL";

impl Operation {
    pub fn id(&self) -> &str {
        self.value["operationId"].as_str().expect("an operation id")
    }

    /// The methods by which it is reached: clients of KV2 write PUT for POST and the other way round, and LIST
    /// for a GET of what stands below.
    pub fn methods(&self) -> Vec<&str> {
        match (self.path.strip_prefix("/api/{okmsId}/v1/secret/"), self.method.as_str()) {
            (Some(_), "POST" | "PUT") => vec!["POST", "PUT"],
            (Some(path), "GET") if path.starts_with("metadata") => vec!["GET", "LIST"],
            (_, method) => vec![method],
        }
    }

    /// Whether it is at this path, of which each parameter is one segment.
    pub fn is_at(&self, path: &str) -> bool {
        let (ours, theirs) = (self.path.split('/'), path.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours
                .zip(theirs)
                .all(|(ours, theirs)| ours == theirs || ours.starts_with('{') && !theirs.is_empty())
    }

    /// The IAM actions that it needs; some need none.
    pub fn actions(&self) -> Vec<&str> {
        let actions = self.value["x-iam-actions"].as_array().into_iter().flatten();
        actions.map(|action| action.as_str().expect("a name")).collect()
    }

    /// Whether it is one of those that clients of Vault ask for beside secrets.
    pub fn is_of_vault(&self) -> bool {
        self.value["tags"][0] == "Vault API"
    }

    /// The address in a domain, with its parameters filled in.
    fn address(&self, okms_id: &str) -> String {
        let address = self.path.replace("{okmsId}", okms_id);
        let address = address.replace("{path}", EXAMPLE_PATH).replace("{version}", "1");
        let address = address.replace("{mount}", "secret");
        assert!(!address.contains('{'), "a parameter that this test does not know: {address}");
        address
    }

    /// The schema of the request body, if it has one.
    fn body_schema(&self) -> Option<&Value> {
        self.value.get("requestBody").map(|body| &body["content"]["application/json"]["schema"])
    }

    /// The example of the request body; empty where there is no body.
    fn example(&self, document: &Value) -> String {
        let schema = self.body_schema().map(|schema| resolve(document, schema));
        schema.map_or(String::new(), |schema| schema["example"].to_string())
    }
}

/// Follows a reference.
fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        None => schema,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference into the document");
            document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
    }
}
