//! What may be asked, as HTTP and as text.

mod kv;

use hyper::Method;

pub use self::kv::{Asked, Cas, Kv, KvSettings, Media, Operation, Versions, VersionsForm};
use crate::sequences::Caller;

/// Requests that follow each other, all of one caller.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub caller: Caller,
    pub requests: Vec<Request>,
}

/// One step of a sequence.
#[derive(Debug, Clone)]
pub enum Request {
    /// Time passes.
    Wait {
        millis: u64,
    },
    List {
        page: Page,
    },
    Create {
        path: String,
        metadata: Metadata,
        data: Data,
        typo: bool,
    },
    Read {
        at: Address,
        version: Option<Number>,
        include_data: Flag,
    },
    Update {
        at: Address,
        cas: Option<Number>,
        metadata: Metadata,
        data: Data,
        typo: bool,
    },
    Delete {
        at: Address,
    },
    ListVersions {
        at: Address,
        page: Page,
    },
    AddVersion {
        at: Address,
        by: Verb,
        cas: Option<Number>,
        data: Data,
        typo: bool,
    },
    ReadVersion {
        at: Address,
        version: Number,
        include_data: Flag,
    },
    SetState {
        at: Address,
        version: Number,
        state: Option<&'static str>,
        typo: bool,
    },
    ReadConfig,
    /// A request to the other API set.
    Kv(Kv),
    UpdateConfig {
        settings: Settings,
        typo: bool,
    },
    /// Enough secrets for a second page.
    FillSecrets,
    /// Enough versions for a second page.
    FillVersions {
        at: Address,
    },
}

/// How a secret is addressed.
#[derive(Debug, Clone)]
pub struct Address {
    pub path: String,
    pub form: Form,
    /// `/v2/okms/resource/{okmsId}` in place of `/api/{okmsId}/v2`.
    pub central: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// Slashes as they are.
    Raw,
    /// Slashes percent-encoded.
    Encoded,
    /// The same in lower case, and the first letter encoded without need.
    Odd,
    /// Encoded twice: never the same secret.
    Twice,
}

#[derive(Debug, Clone, Copy)]
pub enum Verb {
    Post,
    Put,
}

/// A version number in a request.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// The current version of the secret, and so much more.
    Current(i64),
    Exactly(i64),
    Text(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub enum Flag {
    Absent,
    False,
    True,
    Junk,
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub size: Option<&'static str>,
    pub cursor: Cursor,
}

#[derive(Debug, Clone, Copy)]
pub enum Cursor {
    Absent,
    Empty,
    /// The one that the last page of such a list came with, however old that is by now.
    Next,
    Junk,
}

/// A field that may be left out or null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<T> {
    Absent,
    Null,
    Is(T),
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub cas_required: Field<bool>,
    pub max_versions: Field<i64>,
    pub deactivate_version_after: Field<&'static str>,
    /// `cas_required` in place of `casRequired`.
    pub snake_case: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Metadata {
    pub settings: Settings,
    pub custom: Field<&'static [(&'static str, &'static str)]>,
    /// Beside `version` in place of inside `metadata`.
    pub flat: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Data {
    /// No `version`.
    Absent,
    /// A `version` without `data`.
    Missing,
    Null,
    Array,
    /// As it is sent, and as it must come back.
    Object(&'static str, &'static str),
}

/// A request as it is sent.
pub struct Wire {
    pub method: Method,
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<String>,
}

impl Request {
    /// The requests that this stands for.
    pub fn steps(&self) -> Vec<Self> {
        let settings = Settings {
            cas_required: Field::Absent,
            max_versions: Field::Absent,
            deactivate_version_after: Field::Absent,
            snake_case: false,
        };
        let metadata = Metadata { settings, custom: Field::Absent, flat: true };
        let data = Data::Object("{}", "{}");
        match self {
            Self::FillSecrets => (0..12)
                .map(|number| {
                    // Folders among them, for lists of KV2.
                    let below = if number < 8 { "" } else { "/x" };
                    let path = format!("fill/{number:02}{below}");
                    Self::Create { path, metadata, data, typo: false }
                })
                .collect(),
            Self::FillVersions { at } => (0..11)
                .map(|_| {
                    let (at, cas) = (at.clone(), Some(Number::Current(0)));
                    Self::AddVersion { at, by: Verb::Post, cas, data, typo: false }
                })
                .collect(),
            other => vec![other.clone()],
        }
    }

    /// The secret that it names in its address.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Read { at, .. }
            | Self::Update { at, .. }
            | Self::Delete { at }
            | Self::ListVersions { at, .. }
            | Self::AddVersion { at, .. }
            | Self::ReadVersion { at, .. }
            | Self::SetState { at, .. } => Some(at),
            Self::Kv(request) => request.address(),
            _ => None,
        }
    }

    /// The request as HTTP, in a domain; `current` is the number that [`Number::Current`] counts
    /// from, `cursor` the text that [`Cursor::Next`] stands for. `None` where nothing is sent.
    pub fn wire(&self, okms_id: &str, current: i64, cursor: Option<&str>) -> Option<Wire> {
        if let Self::Kv(request) = self {
            return Some(request.wire(okms_id, current, cursor));
        }
        let base = match self.address() {
            Some(Address { central: true, .. }) => format!("/v2/okms/resource/{okms_id}"),
            _ => format!("/api/{okms_id}/v2"),
        };
        let secret = self.address().map(|at| format!("{base}/secret/{}", at.text()));
        let secret = secret.unwrap_or_default();
        let mut headers = Vec::new();
        let (method, target, body) = match self {
            Self::Wait { .. } | Self::FillSecrets | Self::FillVersions { .. } | Self::Kv(_) => {
                return None;
            }
            Self::List { page } => {
                headers = page.headers(cursor);
                (Method::GET, format!("{base}/secret"), None)
            }
            Self::Create { path, metadata, data, typo } => {
                let mut fields = vec![format!(r#""path":"{path}""#)];
                fields.extend(metadata.fields());
                fields.extend(data.version());
                (Method::POST, format!("{base}/secret"), Some(object(fields, *typo)))
            }
            Self::Read { version, include_data, .. } => {
                let version = version.map(|version| version.text(current));
                let query = [("version", version), ("includeData", include_data.text())];
                (Method::GET, secret + &query_text(&query), None)
            }
            Self::Update { cas, metadata, data, typo, .. } => {
                let query = [("cas", cas.map(|cas| cas.text(current)))];
                let mut fields = metadata.fields();
                fields.extend(data.version());
                (Method::PUT, secret + &query_text(&query), Some(object(fields, *typo)))
            }
            Self::Delete { .. } => (Method::DELETE, secret, None),
            Self::ListVersions { page, .. } => {
                headers = page.headers(cursor);
                (Method::GET, format!("{secret}/version"), None)
            }
            Self::AddVersion { by, cas, data, typo, .. } => {
                let query = query_text(&[("cas", cas.map(|cas| cas.text(current)))]);
                let fields = data.text().map(|data| format!(r#""data":{data}"#));
                let body = object(fields.into_iter().collect(), *typo);
                (by.method(), format!("{secret}/version{query}"), Some(body))
            }
            Self::ReadVersion { version, include_data, .. } => {
                let query = query_text(&[("includeData", include_data.text())]);
                let version = version.text(current);
                (Method::GET, format!("{secret}/version/{version}{query}"), None)
            }
            Self::SetState { version, state, typo, .. } => {
                let fields = state.map(|state| format!(r#""state":"{state}""#));
                let body = object(fields.into_iter().collect(), *typo);
                let version = version.text(current);
                (Method::PUT, format!("{secret}/version/{version}"), Some(body))
            }
            Self::ReadConfig => (Method::GET, format!("{base}/secretConfig"), None),
            Self::UpdateConfig { settings, typo } => {
                let body = object(settings.fields(), *typo);
                (Method::PUT, format!("{base}/secretConfig"), Some(body))
            }
        };
        Some(Wire { method, target, headers, body })
    }
}

impl Address {
    fn text(&self) -> String {
        match self.form {
            Form::Raw => self.path.clone(),
            Form::Encoded => self.path.replace('/', "%2F"),
            Form::Odd => {
                let first = self.path.bytes().next().unwrap_or_default();
                let rest = self.path.get(1..).unwrap_or_default().replace('/', "%2f");
                format!("%{first:02x}{rest}")
            }
            Form::Twice => self.path.replace('/', "%252F"),
        }
    }
}

impl Verb {
    fn method(self) -> Method {
        match self {
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
        }
    }
}

impl Number {
    /// The number as it is written.
    pub fn text(self, current: i64) -> String {
        match self {
            Self::Current(more) => (current + more).to_string(),
            Self::Exactly(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }
}

impl Flag {
    fn text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::False => Some("false".into()),
            Self::True => Some("true".into()),
            Self::Junk => Some("yes".into()),
        }
    }
}

impl Page {
    fn headers(self, cursor: Option<&str>) -> Vec<(&'static str, String)> {
        let size = self.size.map(|size| ("x-pagination-size", size.to_owned()));
        let cursor = match self.cursor {
            Cursor::Absent => None,
            Cursor::Empty => Some(String::new()),
            Cursor::Next => cursor.map(str::to_owned),
            Cursor::Junk => Some("!".into()),
        };
        size.into_iter().chain(cursor.map(|cursor| ("x-pagination-cursor", cursor))).collect()
    }
}

impl<T> Field<T> {
    fn text(self, write: impl Fn(T) -> String) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Null => Some("null".into()),
            Self::Is(value) => Some(write(value)),
        }
    }
}

impl Settings {
    fn fields(self) -> Vec<String> {
        let names = if self.snake_case {
            ["cas_required", "max_versions", "deactivate_version_after"]
        } else {
            ["casRequired", "maxVersions", "deactivateVersionAfter"]
        };
        let values = [
            self.cas_required.text(|value| value.to_string()),
            self.max_versions.text(|value| value.to_string()),
            self.deactivate_version_after.text(|value| format!(r#""{value}""#)),
        ];
        let given = names.iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
        given.map(|(name, value)| format!(r#""{name}":{value}"#)).collect()
    }
}

impl Metadata {
    fn fields(self) -> Vec<String> {
        let mut fields = self.settings.fields();
        let name = if self.settings.snake_case { "custom_metadata" } else { "customMetadata" };
        let custom = self.custom.text(|entries| {
            let entries = entries.iter().map(|(key, value)| format!(r#""{key}":"{value}""#));
            object(entries.collect(), false)
        });
        fields.extend(custom.map(|custom| format!(r#""{name}":{custom}"#)));
        if self.flat {
            return fields;
        }
        vec![format!(r#""metadata":{}"#, object(fields, false))]
    }
}

impl Data {
    fn text(self) -> Option<String> {
        match self {
            Self::Absent | Self::Missing => None,
            Self::Null => Some("null".into()),
            Self::Array => Some("[1]".into()),
            Self::Object(sent, _) => Some(sent.into()),
        }
    }

    fn version(self) -> Option<String> {
        let data = self.text().map(|data| format!(r#""data":{data}"#));
        match self {
            Self::Absent => None,
            _ => Some(format!(r#""version":{}"#, object(data.into_iter().collect(), false))),
        }
    }
}

fn object(mut fields: Vec<String>, typo: bool) -> String {
    if typo {
        fields.push(r#""typo":1"#.to_owned());
    }
    format!("{{{}}}", fields.join(","))
}

fn query_text(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let text: Vec<String> = given.map(|(name, value)| format!("{name}={value}")).collect();
    if text.is_empty() { String::new() } else { format!("?{}", text.join("&")) }
}
