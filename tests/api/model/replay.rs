//! Sends a sequence to a server and compares each answer with the model's.

use serde_json::Value;

use super::{
    requests::{Address, Asked, Cursor, Flag, Form, Kv, Number, Page, Request, Sequence, Wire},
    rules::{DATA, Expected, Model, REQUEST_ID, decoded},
};
use crate::{
    sequences::Header,
    support::{Answer, Client, Server},
};
use okmsd::domain::Clock;

/// Replays a sequence in a domain of its own, and at last reads all that must be there. Gives the
/// number of requests; or the story up to the first wrong answer, one line to a request.
pub async fn replay(server: &Server, sequence: &Sequence) -> Result<usize, String> {
    let domain = server.domain().await;
    let (client, credential) = sequence.caller.enter(server, &domain).await;
    let now = u64::try_from(server.clock.now().as_millis()).expect("after 1970");
    let model = Model::new(domain.okms_id.to_string(), now);
    let mut replay = Replay {
        server,
        client,
        credential,
        model,
        secrets: None,
        versions: None,
        folder: None,
        story: vec![format!("as {:?}", sequence.caller)],
    };
    for request in sequence.requests.iter().flat_map(Request::steps) {
        replay.step(&request).await?;
    }
    for request in replay.all_there_is() {
        replay.step(&request).await?;
    }
    Ok(replay.story.len() - 1)
}

struct Replay<'s> {
    server: &'s Server,
    client: Client,
    /// The header with the token of the caller, who has no certificate then.
    credential: Option<Header>,
    model: Model,
    /// Where the last page of secrets, of versions, and of a folder, said that the next one begins.
    secrets: Option<NextPage>,
    versions: Option<NextPage>,
    folder: Option<NextPage>,
    story: Vec<String>,
}

#[derive(Clone)]
struct NextPage {
    cursor: String,
    after: String,
}

impl Replay<'_> {
    async fn step(&mut self, request: &Request) -> Result<(), String> {
        let current = request.address().map(|at| self.model.current_version(&decoded(at)));
        let next = match request {
            Request::ListVersions { .. } => self.versions.clone(),
            Request::Kv(_) => self.folder.clone(),
            _ => self.secrets.clone(),
        };
        let cursor = next.as_ref().map(|next| next.cursor.as_str());
        let okms_id = self.model.okms_id.clone();
        let wire = request.wire(&okms_id, current.unwrap_or(0), cursor);
        let expected = self.model.answer(request, next.map(|next| next.after).as_deref());
        let Some(wire) = wire else {
            if let Request::Wait { millis } = request {
                self.server.clock.advance(std::time::Duration::from_millis(*millis));
                self.story.push(format!("time passes: {millis} ms"));
            }
            return Ok(());
        };
        let told = wire.told(&okms_id);
        let answer = self.send(wire).await;
        let text = answer.text().replace(&okms_id, "{okmsId}");
        if let Err(difference) = compare(&expected, &answer) {
            let expected = expected.to_string().replace(&okms_id, "{okmsId}");
            self.story.push(format!(
                "{told}\n    {difference}\n    expected: {expected}\n    actual:   {} {text}",
                answer.status
            ));
            return Err(self.story.join("\n"));
        }
        self.story.push(format!("{told}  ->  {} {text}", answer.status));
        if let Expected::Body { next, .. } = expected {
            let next = next.map(|after| NextPage {
                cursor: next_cursor(&answer).unwrap_or_default().to_owned(),
                after,
            });
            match request {
                Request::List { .. } => self.secrets = next.or(self.secrets.take()),
                Request::ListVersions { .. } => self.versions = next.or(self.versions.take()),
                Request::Kv(Kv::List { .. }) => self.folder = next.or(self.folder.take()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn send(&self, wire: Wire) -> Answer {
        let mut headers: Vec<(&str, &str)> =
            wire.headers.iter().chain(&self.credential).map(|(k, v)| (*k, &v[..])).collect();
        let is_declared = headers.iter().any(|(name, _)| *name == "content-type");
        if wire.body.is_some() && !is_declared {
            headers.push(("content-type", "application/json"));
        }
        let body = wire.body.unwrap_or_default();
        self.client.send(wire.method, &wire.target, &headers, body.into()).await
    }

    /// Requests that read everything that the model knows of.
    fn all_there_is(&self) -> Vec<Request> {
        let page = Page { size: None, cursor: Cursor::Absent };
        let at = |path: String| Address { path, form: Form::Encoded, central: false };
        let root = Kv::List { folder: None, slash: true, asked: Asked::True, page };
        let mut requests = vec![Request::ReadConfig, Request::List { page }, Request::Kv(root)];
        for path in self.model.paths() {
            if !path.starts_with("fill/") {
                requests.push(Request::Kv(Kv::ReadMetadata { at: at(path) }));
            }
        }
        let mut last = None;
        for (path, version) in self.model.versions() {
            // The filled ones are all alike, and many.
            if path.starts_with("fill/") {
                continue;
            }
            if last.as_ref() != Some(&path) {
                requests.push(Request::ListVersions { at: at(path.clone()), page });
                last = Some(path.clone());
            }
            // Each of them by one of the two sets.
            let (number, include_data) = (Number::Exactly(version), Flag::True);
            requests.push(match version % 2 {
                0 => Request::Kv(Kv::Read { at: at(path), version: Some(number) }),
                _ => Request::ReadVersion { at: at(path), version: number, include_data },
            });
        }
        requests
    }
}

impl Wire {
    fn told(&self, okms_id: &str) -> String {
        let mut told = format!("{} {}", self.method, self.target.replace(okms_id, "{okmsId}"));
        for (name, value) in &self.headers {
            told.push_str(&format!(" [{name}: {value}]"));
        }
        if let Some(body) = &self.body {
            told.push_str(&format!(" {body}"));
        }
        told
    }
}

fn compare(expected: &Expected, answer: &Answer) -> Result<(), String> {
    let json = answer.header("content-type") == Some("application/json");
    match expected {
        Expected::Nothing => {
            differ("status", 204, answer.status)?;
            differ("body", "", answer.text())
        }
        Expected::Error { status, codes, data } => {
            differ("status", *status, answer.status)?;
            differ("JSON", true, json)?;
            let body = parse(&answer.text())?;
            let code = body["error_code"].as_i64().ok_or("no integer as error_code")?;
            if !codes.contains(&code) {
                return Err(format!("error_code: expected one of {codes:?}, found {code}"));
            }
            let fields: Vec<&String> = body.as_object().ok_or("no object")?.keys().collect();
            let named = &["error_id", "error_code", "errors", "request_id", "data"];
            differ("fields", &named[..if data.is_some() { 5 } else { 4 }], &fields)?;
            if let Some(data) = data
                && let Some(difference) = first_difference("data", data, &body["data"])
            {
                return Err(difference);
            }
            differ("x-request-id", body["request_id"].as_str(), answer.header("x-request-id"))?;
            let errors = body["errors"].as_array().ok_or("no list of errors")?;
            let texts = errors.iter().filter_map(Value::as_str);
            differ("texts", 1, texts.filter(|text| !text.is_empty()).count())
        }
        Expected::Body { body, data, next } => {
            differ("status", 200, answer.status)?;
            differ("JSON", true, json)?;
            let mut text = answer.text();
            if let Some((name, data)) = data {
                let (raw, marked) =
                    (format!(r#""{name}":{data}"#), format!(r#""{name}":"{DATA}""#));
                differ("data in its own letters", 1, text.matches(&raw).count())?;
                text = text.replace(&raw, &marked);
            }
            let mut found = parse(&text)?;
            if found.get("request_id").is_some() {
                let header = answer.header("x-request-id");
                differ("x-request-id", found["request_id"].as_str(), header)?;
                found["request_id"] = REQUEST_ID.into();
            }
            if let Some(warnings) = found.get_mut("warnings") {
                *warnings = warnings.as_array().ok_or("warnings are no list")?.len().into();
            }
            if let Some(difference) = first_difference("", body, &found) {
                return Err(difference);
            }
            differ("another page", next.is_some(), next_cursor(answer).is_some())
        }
    }
}

/// Where two bodies differ first.
fn first_difference(place: &str, expected: &Value, found: &Value) -> Option<String> {
    let below = |key: &str, expected: Option<&Value>, found: Option<&Value>| {
        let place = format!("{place}/{key}");
        match (expected, found) {
            (Some(expected), Some(found)) => first_difference(&place, expected, found),
            (Some(expected), None) => Some(format!("{place} is missing: {expected}")),
            (None, Some(found)) => Some(format!("{place} is too many: {found}")),
            (None, None) => None,
        }
    };
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let mut keys = expected.keys().chain(found.keys());
            keys.find_map(|key| below(key, expected.get(key), found.get(key)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            let mut indexes = 0..expected.len().max(found.len());
            indexes.find_map(|at| below(&at.to_string(), expected.get(at), found.get(at)))
        }
        (expected, found) if expected == found => None,
        (expected, found) => Some(format!("{place}: expected {expected}, found {found}")),
    }
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the body is no JSON: {error}"))
}

fn next_cursor(answer: &Answer) -> Option<&str> {
    answer.header("x-pagination-cursor-next").filter(|cursor| !cursor.is_empty())
}

fn differ<E: PartialEq<F> + std::fmt::Debug, F: std::fmt::Debug>(
    what: &str,
    expected: E,
    found: F,
) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, found {found:?}"))
}
