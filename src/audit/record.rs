//! What is recorded of a request and of an act.
//!
//! An allow-list: there is no field for data, a body, a header, a query or a raw path, which may hold
//! a secret that somebody typed into the wrong place.

use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, sync::Arc};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::domain::{CredentialId, Noted, NotedDecision, Principal, TokenId};

/// A request that reached the API.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RequestRecord {
    /// The id that the answer carries too.
    request_id: Arc<str>,
    /// The other end of the TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    credential_id: Option<CredentialId>,
    /// The credential of a certificate that does not count: who used it is not known by that.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    refused_credential_id: Option<CredentialId>,
    /// The id of the token that the caller sent, which is not the token.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    token_id: Option<TokenId>,
    /// The id of a token that the caller sent and that does not count: who used it is not known by that.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    refused_token_id: Option<TokenId>,
    /// The id of the token that the caller was given.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    issued_token_id: Option<TokenId>,
    /// SHA-256 of the client's certificate, hex; also of one that does not count.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hexadecimal")]
    certificate: Option<[u8; 32]>,
    #[serde(skip_serializing_if = "Identities::is_empty")]
    identities: Identities,
    /// What was asked for: the operation's id in the OpenAPI document.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Arc<str>>,
    method: &'static str,
    /// The pattern of the path, such as `/api/{okmsId}/v2/secret/{path}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<Decision>,
    /// How many decisions, identities or versions there were beyond those that are listed.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_urn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// Where a request is about several versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<u32>,
    /// The answer's status; none where the caller went away before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i32>,
    /// The caller went away before its answer: whether the request was done is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    abandoned: bool,
    /// The answer is that of an earlier request with the same idempotency key: this one changed nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
}

/// The identities of a caller: the first of them are listed.
#[derive(Debug, Clone, Default)]
struct Identities(Option<Arc<Principal>>);

impl Identities {
    fn all(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |principal| &principal.identity_urns)
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }
}

impl Serialize for Identities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.all().iter().take(MAX_LISTED).map(|urn| beginning(urn)))
    }
}

/// A decision about the caller's rights.
#[derive(Debug, Clone, Serialize)]
struct Decision {
    action: &'static str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
}

/// An act of the command line, as it begins or as it ended.
///
/// One that begun and did not end was killed: whether it was done is not known.
#[derive(Debug, Clone, Serialize)]
pub struct ActRecord {
    /// Ties the two records of an act.
    act_id: String,
    stage: Stage,
    /// The subcommand.
    operation: &'static str,
    /// What it is about: names of things.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    about: BTreeMap<&'static str, About>,
    /// How many values there were beyond those that are listed.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
    /// Who runs it: the user id of the process.
    user_id: u32,
    /// Whether it was done, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Begun,
    Ended,
}

/// What an act is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum About {
    /// A thing.
    One(String),
    /// Any number of them.
    Many(Vec<String>),
}

impl ActRecord {
    /// The record of an act that begins, of the user `user_id`.
    pub fn begun(operation: &'static str, about: Vec<(&'static str, About)>, user_id: u32) -> Self {
        let mut record = Self {
            act_id: Uuid::new_v4().to_string(),
            stage: Stage::Begun,
            operation,
            about: BTreeMap::new(),
            left_out: 0,
            user_id,
            done: None,
        };
        record.note(about);
        record
    }

    /// The record of the same act as it ended, with what came of it.
    #[must_use]
    pub fn ended(mut self, done: bool, about: Vec<(&'static str, About)>) -> Self {
        self.stage = Stage::Ended;
        self.done = Some(done);
        self.note(about);
        self
    }

    /// Adds what an act is about, as far as a line has room for it.
    fn note(&mut self, about: Vec<(&'static str, About)>) {
        let length = |text: &str| serde_json::to_string(text).map_or(0, |json| json.len() + 1);
        let mut room = MAX_ABOUT.saturating_sub(
            self.about
                .values()
                .map(|about| match about {
                    About::One(text) => length(text),
                    About::Many(texts) => texts.iter().map(|text| length(text)).sum(),
                })
                .sum(),
        );
        let mut left_out = 0;
        let mut fits = |text: String| {
            let text = bounded(text);
            match room.checked_sub(length(&text)) {
                Some(rest) => {
                    room = rest;
                    Some(text)
                }
                None => {
                    left_out += 1;
                    None
                }
            }
        };
        for (what, about) in about {
            let about = match about {
                About::One(text) => fits(text).map(About::One),
                About::Many(texts) => {
                    Some(About::Many(texts.into_iter().filter_map(&mut fits).collect()))
                }
            };
            self.about.extend(about.map(|about| (what, about)));
        }
        self.left_out += left_out;
    }
}

impl RequestRecord {
    /// The record of a request as it comes in; `method` is a [known](known_method) one.
    pub fn new(
        request_id: Arc<str>,
        client_address: Option<SocketAddr>,
        method: &'static str,
        route: Option<Arc<str>>,
        operation: Option<Arc<str>>,
    ) -> Self {
        Self { request_id, client_address, method, route, operation, ..Self::default() }
    }

    /// Adds what was noted on the way of the request.
    pub fn note(&mut self, noted: Noted) {
        if let Some(principal) = noted.principal {
            self.credential_id = principal.credential_id;
            self.token_id = principal.token_id;
            self.certificate = principal.fingerprint;
            self.left_out += principal.identity_urns.len().saturating_sub(MAX_LISTED);
            self.identities = Identities(Some(principal));
        } else {
            self.refused_credential_id = noted.refused_credential;
            self.certificate = noted.refused_certificate;
        }
        self.refused_token_id = noted.refused_token;
        self.issued_token_id = noted.issued_token;
        self.replay = noted.is_replay;
        self.left_out += noted.decisions.len().saturating_sub(MAX_LISTED);
        self.decisions = noted.decisions.into_iter().take(MAX_LISTED).map(Decision::from).collect();
        self.resource_urn = noted.resource.map(|resource| bounded(resource.urn()));
        match noted.versions.as_slice() {
            [version] => self.version = Some(version.get()),
            versions => {
                self.left_out += versions.len().saturating_sub(MAX_LISTED);
                self.versions =
                    versions.iter().take(MAX_LISTED).map(|version| version.get()).collect();
            }
        }
    }

    /// Adds how the request was answered.
    pub fn answered(&mut self, status: u16, error_code: Option<i32>) {
        self.status = Some(status);
        self.error_code = error_code;
    }

    /// Says that the caller went away before its answer.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Whether the request may have changed something.
    pub(super) fn is_change(&self) -> bool {
        let refused = self.status.is_some_and(|status| (400..500).contains(&status));
        !matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE") && !refused
    }
}

impl From<NotedDecision> for Decision {
    fn from(noted: NotedDecision) -> Self {
        let decided_by = noted.decided_by.map(bounded);
        Self { action: noted.action, allowed: noted.allowed, decided_by }
    }
}

/// The method of a request where it is one of HTTP's own; any other token is the caller's free text.
pub fn known_method(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// A text no longer than a record can hold.
fn bounded(mut text: String) -> String {
    text.truncate(beginning(&text).len());
    text
}

/// As much of a text as a record can hold.
fn beginning(text: &str) -> &str {
    // Nearly always; characters are counted where there may be too many.
    if text.len() <= MAX_TEXT {
        return text;
    }
    text.char_indices().nth(MAX_TEXT).map_or(text, |(end, _)| &text[..end])
}

fn text<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn hexadecimal<S: Serializer>(hash: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => serializer.serialize_str(&super::line::hex(hash)),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// Identities and decisions of one record: a list decides about each of its items, and a line must stay
/// below the longest that a reader takes.
const MAX_LISTED: usize = 32;

/// Characters of a text: the longest URN of a secret, every character of its path encoded, is shorter.
const MAX_TEXT: usize = 2_048;

/// Bytes of what an act is about: half of the longest line, thousands of members of a group.
const MAX_ABOUT: usize = super::line::MAX_LINE / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_the_callers_own_making_is_not_recorded() {
        assert_eq!(known_method("PUT"), "PUT");
        assert_eq!(known_method("hunter2"), "other");
        assert_eq!(known_method("get"), "other");
    }

    #[test]
    fn lists_and_texts_of_a_record_are_bounded_and_it_says_so() {
        let mut record = RequestRecord::new("id".into(), None, "GET", None, None);
        let decision =
            NotedDecision { action: "a", allowed: true, decided_by: Some("x".repeat(5_000)) };
        let decisions = vec![decision; MAX_LISTED + 7];
        record.note(Noted { decisions, ..Noted::default() });
        assert_eq!((record.decisions.len(), record.left_out), (MAX_LISTED, 7));
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""left_out":7"#));
        assert!(text.len() < super::super::line::MAX_LINE, "{}", text.len());
        assert_eq!(record.decisions[0].decided_by.as_ref().unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn what_an_act_is_about_fits_into_a_line_and_what_does_not_is_counted() {
        let members: Vec<_> = (0..9_000).map(|number| format!("{number:0>100}\u{1}")).collect();
        let about =
            vec![("members", About::Many(members)), ("group", About::One("g".repeat(9_000)))];
        let record = ActRecord::begun("group add", about.clone(), 0);
        let record = record.ended(true, vec![("more", About::One("x".repeat(1_000)))]);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.len() < MAX_ABOUT + 1_000, "{}", text.len());
        let About::Many(listed) = &record.about["members"] else { panic!("a list") };
        assert!(listed.len() > 4_000, "{}", listed.len());
        // The group and what came later have no room left.
        assert_eq!(record.left_out, 9_000 - listed.len() + 2);
    }

    #[test]
    fn what_may_have_changed_something_is_a_change() {
        let record = |method, status: Option<u16>| {
            let mut record = RequestRecord::new("".into(), None, method, None, None);
            record.status = status;
            record.is_change()
        };
        assert!(record("PUT", Some(200)) && record("DELETE", Some(500)) && record("POST", None));
        assert!(!record("GET", Some(200)) && !record("PUT", Some(403)));
    }
}
