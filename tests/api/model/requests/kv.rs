//! What may be asked of KV2.

use hyper::Method;

use super::{Address, Data, Field, Form, Number, Page, Settings, Verb, Wire, object, query_text};

/// A request to `/api/{okmsId}/v1/secret`.
#[derive(Debug, Clone)]
pub enum Kv {
    ReadConfig,
    WriteConfig {
        by: Verb,
        settings: KvSettings,
        typo: bool,
    },
    Write {
        at: Address,
        by: Verb,
        cas: Option<Cas>,
        data: Data,
        typo: bool,
    },
    Patch {
        at: Address,
        media: Media,
        cas: Option<Cas>,
        data: Data,
        typo: bool,
    },
    Read {
        at: Address,
        version: Option<Number>,
    },
    ReadKeys {
        at: Address,
        version: Option<Number>,
        depth: Option<&'static str>,
    },
    /// The current version goes.
    DeleteData {
        at: Address,
    },
    SetStates {
        at: Address,
        by: Verb,
        operation: Operation,
        versions: Versions,
        typo: bool,
    },
    ReadMetadata {
        at: Address,
    },
    WriteMetadata {
        at: Address,
        by: Verb,
        settings: KvSettings,
        custom: Field<&'static [(&'static str, &'static str)]>,
        typo: bool,
    },
    PatchMetadata {
        at: Address,
        media: Media,
        settings: KvSettings,
        custom: Field<&'static [(&'static str, Option<&'static str>)]>,
        typo: bool,
    },
    Delete {
        at: Address,
    },
    List {
        /// `None` is the root.
        folder: Option<Address>,
        slash: bool,
        asked: Asked,
        page: Page,
    },
}

/// `options.cas`.
#[derive(Debug, Clone, Copy)]
pub enum Cas {
    Number(Number),
    /// The same in quotes.
    Text(Number),
    Null,
}

#[derive(Debug, Clone, Copy)]
pub enum Media {
    Json,
    MergePatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Delete,
    Undelete,
    Destroy,
}

/// The versions of a body, and how they are written.
#[derive(Debug, Clone)]
pub struct Versions {
    pub numbers: Vec<Number>,
    pub form: VersionsForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionsForm {
    Numbers,
    Texts,
    /// One text with commas.
    Commas,
    /// Not there, whatever the numbers.
    Absent,
}

#[derive(Debug, Clone, Copy)]
pub struct KvSettings {
    pub values: Settings,
    /// Numbers and booleans in quotes.
    pub quoted: bool,
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// `?list=true`
    True,
    /// `?list=1`
    One,
    /// With the method LIST.
    Method,
    /// Not at all: of the root there is nothing else.
    Nothing,
}

impl Kv {
    /// The secret that it names in its address.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Write { at, .. }
            | Self::Patch { at, .. }
            | Self::Read { at, .. }
            | Self::ReadKeys { at, .. }
            | Self::DeleteData { at }
            | Self::SetStates { at, .. }
            | Self::ReadMetadata { at }
            | Self::WriteMetadata { at, .. }
            | Self::PatchMetadata { at, .. }
            | Self::Delete { at } => Some(at),
            Self::ReadConfig | Self::WriteConfig { .. } | Self::List { .. } => None,
        }
    }

    /// The request as HTTP; see [`Request::wire`](super::Request::wire).
    pub fn wire(&self, okms_id: &str, current: i64, cursor: Option<&str>) -> Wire {
        let address = |operation: &str| {
            let path = self.address().map(Address::text).unwrap_or_default();
            format!("/api/{okms_id}/v1/secret/{operation}/{path}")
        };
        let mut headers = Vec::new();
        let (method, target, body) = match self {
            Self::ReadConfig => (Method::GET, format!("/api/{okms_id}/v1/secret/config"), None),
            Self::WriteConfig { by, settings, typo } => {
                let body = object(settings.fields(), *typo);
                (by.method(), format!("/api/{okms_id}/v1/secret/config"), Some(body))
            }
            Self::Write { by, cas, data, typo, .. } => {
                (by.method(), address("data"), Some(written(*cas, *data, current, *typo)))
            }
            Self::Patch { media, cas, data, typo, .. } => {
                headers.push(media.header());
                (Method::PATCH, address("data"), Some(written(*cas, *data, current, *typo)))
            }
            Self::Read { version, .. } => {
                let query = query_text(&[("version", version.map(|number| number.text(current)))]);
                (Method::GET, address("data") + &query, None)
            }
            Self::ReadKeys { version, depth, .. } => {
                let version = version.map(|number| number.text(current));
                let query =
                    query_text(&[("version", version), ("depth", depth.map(str::to_owned))]);
                (Method::GET, address("subkeys") + &query, None)
            }
            Self::DeleteData { .. } => (Method::DELETE, address("data"), None),
            Self::SetStates { by, operation, versions, typo, .. } => {
                let operation = match operation {
                    Operation::Delete => "delete",
                    Operation::Undelete => "undelete",
                    Operation::Destroy => "destroy",
                };
                let fields = versions.text(current).map(|text| format!(r#""versions":{text}"#));
                let body = object(fields.into_iter().collect(), *typo);
                (by.method(), address(operation), Some(body))
            }
            Self::ReadMetadata { .. } => (Method::GET, address("metadata"), None),
            Self::WriteMetadata { by, settings, custom, typo, .. } => {
                let mut fields = settings.fields();
                let custom = custom.text(|pairs| {
                    let pairs = pairs.iter().map(|(key, value)| format!(r#""{key}":"{value}""#));
                    object(pairs.collect(), false)
                });
                fields.extend(custom.map(|custom| format!(r#""custom_metadata":{custom}"#)));
                (by.method(), address("metadata"), Some(object(fields, *typo)))
            }
            Self::PatchMetadata { media, settings, custom, typo, .. } => {
                headers.push(media.header());
                let mut fields = settings.fields();
                let custom = custom.text(|pairs| {
                    let pairs = pairs.iter().map(|(key, value)| match value {
                        Some(value) => format!(r#""{key}":"{value}""#),
                        None => format!(r#""{key}":null"#),
                    });
                    object(pairs.collect(), false)
                });
                fields.extend(custom.map(|custom| format!(r#""custom_metadata":{custom}"#)));
                (Method::PATCH, address("metadata"), Some(object(fields, *typo)))
            }
            Self::Delete { .. } => (Method::DELETE, address("metadata"), None),
            Self::List { folder, slash, asked, page } => {
                headers = page.headers(cursor);
                let mut target = format!("/api/{okms_id}/v1/secret/metadata");
                if let Some(folder) = folder {
                    target += &format!("/{}", folder.text());
                }
                target += match folder.as_ref().map(|folder| folder.form) {
                    _ if !slash => "",
                    None | Some(Form::Raw) => "/",
                    _ => "%2F",
                };
                match asked {
                    Asked::True => (Method::GET, target + "?list=true", None),
                    Asked::One => (Method::GET, target + "?list=1", None),
                    Asked::Nothing => (Method::GET, target, None),
                    Asked::Method => {
                        let list = Method::from_bytes(b"LIST").expect("a method");
                        (list, target, None)
                    }
                }
            }
        };
        Wire { method, target, headers, body }
    }
}

fn written(cas: Option<Cas>, data: Data, current: i64, typo: bool) -> String {
    let mut fields: Vec<_> =
        data.text().map(|data| format!(r#""data":{data}"#)).into_iter().collect();
    let cas = cas.map(|cas| match cas {
        Cas::Number(number) => bare(&number.text(current)),
        Cas::Text(number) => format!(r#""{}""#, number.text(current)),
        Cas::Null => "null".to_owned(),
    });
    fields.extend(cas.map(|cas| format!(r#""options":{{"cas":{cas}}}"#)));
    object(fields, typo)
}

/// A number as JSON has it; in quotes what JSON would not take for one.
fn bare(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = digits.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    if is_number { text.to_owned() } else { format!(r#""{text}""#) }
}

impl Versions {
    fn text(&self, current: i64) -> Option<String> {
        let texts: Vec<_> = self.numbers.iter().map(|number| number.text(current)).collect();
        match self.form {
            VersionsForm::Numbers => {
                let numbers: Vec<_> = texts.iter().map(|text| bare(text)).collect();
                Some(format!("[{}]", numbers.join(",")))
            }
            VersionsForm::Texts => {
                let quoted: Vec<_> = texts.iter().map(|text| format!(r#""{text}""#)).collect();
                Some(format!("[{}]", quoted.join(",")))
            }
            VersionsForm::Commas => Some(format!(r#""{}""#, texts.join(","))),
            VersionsForm::Absent => None,
        }
    }
}

impl KvSettings {
    fn fields(self) -> Vec<String> {
        let quoted = |text: String| if self.quoted { format!(r#""{text}""#) } else { text };
        let values = [
            ("cas_required", self.values.cas_required.text(|value| quoted(value.to_string()))),
            ("max_versions", self.values.max_versions.text(|value| quoted(value.to_string()))),
            (
                "delete_version_after",
                // Seconds may be a number.
                self.values.deactivate_version_after.text(|value| match value {
                    "3" => quoted(value.to_owned()),
                    value => format!(r#""{value}""#),
                }),
            ),
        ];
        let given = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.map(|(name, value)| format!(r#""{name}":{value}"#)).collect()
    }
}

impl Media {
    fn header(self) -> (&'static str, String) {
        let media_type = match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
        };
        ("content-type", media_type.to_owned())
    }
}
