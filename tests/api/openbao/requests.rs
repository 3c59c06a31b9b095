//! What is asked, in the words that a failure is told in.

use hyper::Method;
use okmsd::domain::SecretData;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A request to a KV2 engine: `PUT data/a {"data":{}}`.
///
/// Numbers that depend on what is there are written as `{current}`, `{before}` and `{next}`: the version of
/// the secret that is the current one when the request is sent, the one before it, and the one after. `{large}`
/// stands for more letters than fit into a version.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Below the mount.
    pub target: String,
    pub body: Option<String>,
}

impl Request {
    pub fn new(method: &str, target: impl Into<String>, body: Option<String>) -> Self {
        Self { method: method.to_owned(), target: target.into(), body }
    }

    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target, None)
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Self {
        let mut words = line.trim().splitn(3, ' ');
        let method = words.next().expect("a method");
        let target = words.next().expect("a target");
        Self::new(method, target, words.next().map(str::to_owned))
    }

    /// The same with numbers in it, as it is sent.
    pub fn at(&self, current: u64) -> Self {
        let fill = |text: &str| {
            text.replace("{current}", &current.to_string())
                .replace("{before}", &current.saturating_sub(1).to_string())
                .replace("{next}", &(current + 1).to_string())
                .replace("{large}", &"x".repeat(SecretData::MAX_BYTES))
        };
        Self::new(&self.method, fill(&self.target), self.body.as_deref().map(fill))
    }

    /// `config`, `data`, `subkeys`, `delete`, `undelete`, `destroy` or `metadata`.
    pub fn operation(&self) -> &str {
        self.target.split(['/', '?']).next().unwrap_or_default()
    }

    /// The secret, or the folder that is listed.
    pub fn path(&self) -> String {
        percent_decode_str(self.written_path()).decode_utf8_lossy().into_owned()
    }

    /// The same as it stands in the address.
    pub fn written_path(&self) -> &str {
        let path = self.target.split_once('/').map_or("", |(_, path)| path);
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub fn is_list(&self) -> bool {
        self.method == "LIST" || self.target.contains("list=true")
    }

    pub fn changes(&self) -> bool {
        !matches!(&self.method[..], "GET" | "LIST")
    }

    pub fn method(&self) -> Method {
        self.method.parse().expect("a method")
    }

    pub fn content_type(&self) -> &'static str {
        match &self.method[..] {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        }
    }

    /// A field of the body; null where it is not there.
    pub fn field(&self, pointer: &str) -> Value {
        let body = self.body.as_deref().and_then(|body| serde_json::from_str::<Value>(body).ok());
        body.and_then(|body| body.pointer(pointer).cloned()).unwrap_or_default()
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        match &self.body {
            Some(body) => write!(f, " {}", body.chars().take(MAX_SHOWN).collect::<String>()),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Letters of a body that a story shows.
const MAX_SHOWN: usize = 1_000;
