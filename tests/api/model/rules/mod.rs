//! The model: what must be answered, written from the contract in the plainest way.
//!
//! It shares no code with the program, so that a mistake in one of them shows. What both API sets have in
//! common stands here, and what they ask and answer in a file of its own each.

mod kv;
mod tree;
mod v2;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::requests::{Address, Cursor, Data, Field, Form, Page, Settings};

/// A domain as it must be.
pub struct Model {
    pub okms_id: String,
    /// Milliseconds since 1970.
    pub now: u64,
    config: Config,
    secrets: BTreeMap<String, Secret>,
}

#[derive(Clone, PartialEq)]
struct Config {
    cas_required: bool,
    max_versions: i64,
    deactivate_version_after: String,
}

#[derive(Clone)]
struct Secret {
    config: Config,
    custom: BTreeMap<String, String>,
    current: i64,
    oldest: i64,
    created: u64,
    updated: u64,
    versions: BTreeMap<i64, Version>,
}

#[derive(Clone)]
struct Version {
    created: u64,
    /// When it closed or will close.
    closes: Option<u64>,
    deleted: bool,
    data: String,
}

/// What must be answered.
pub enum Expected {
    /// An error with one of these codes; several where the request breaks several rules at once.
    /// `data` is what stands beside it.
    Error { status: u16, codes: Vec<i64>, data: Option<Value> },
    /// A success without a body.
    Nothing,
    /// A success. `data` is what must stand in the body digit by digit under this name, where the
    /// value has [`DATA`]; `warnings` are counted only. `next` is the key of the last item on the page, where
    /// another page follows.
    Body { body: Value, data: Option<(&'static str, String)>, next: Option<String> },
}

/// Stands in a body for the data.
pub const DATA: &str = "(data)";
/// Stands in a body for the id of the request.
pub const REQUEST_ID: &str = "(request_id)";

impl Model {
    pub fn new(okms_id: String, now: u64) -> Self {
        Self { okms_id, now, config: Config::new(), secrets: BTreeMap::new() }
    }

    /// The number of the current version; 0 where there is no such secret.
    pub fn current_version(&self, path: &str) -> i64 {
        self.secrets.get(path).map_or(0, |secret| secret.current)
    }

    fn urn(&self, path: &str) -> String {
        let in_urn: String = path
            .chars()
            .map(|letter| match letter {
                '/' => "%2F".to_owned(),
                ':' => "%3A".to_owned(),
                '=' => "%3D".to_owned(),
                '@' => "%40".to_owned(),
                other => other.to_string(),
            })
            .collect();
        format!("urn:v1:eu:resource:okms:{}/secret/{in_urn}", self.okms_id)
    }

    /// The paths of all secrets.
    pub fn paths(&self) -> Vec<String> {
        self.secrets.keys().cloned().collect()
    }

    /// All secrets with their versions.
    pub fn versions(&self) -> Vec<(String, i64)> {
        let secrets = self.secrets.iter();
        let versions = secrets.flat_map(|(path, secret)| {
            secret.versions.keys().map(|version| (path.clone(), *version))
        });
        versions.collect()
    }
}

impl Config {
    fn new() -> Self {
        let deactivate_version_after = "0s".to_owned();
        Self { cas_required: false, max_versions: 0, deactivate_version_after }
    }

    fn change(&mut self, settings: &Settings) {
        if let Field::Is(value) = settings.cas_required {
            self.cas_required = value;
        }
        if let Field::Is(value) = settings.max_versions {
            self.max_versions = value;
        }
        if let Field::Is(value) = settings.deactivate_version_after {
            // The empty text is the duration that is not set.
            self.deactivate_version_after =
                if value.is_empty() { "0s".to_owned() } else { value.to_owned() };
        }
    }
}

impl Secret {
    fn new(now: u64) -> Self {
        Self {
            config: Config::new(),
            custom: BTreeMap::new(),
            current: 0,
            oldest: 0,
            created: now,
            updated: now,
            versions: BTreeMap::new(),
        }
    }

    fn cas_is_right(&self, cas: Option<i64>, domain: &Config) -> bool {
        match cas {
            Some(cas) => cas == self.current,
            None => !self.config.cas_required && !domain.cas_required,
        }
    }

    fn add(&mut self, data: Data, domain: &Config, now: u64) {
        let Data::Object(_, data) = data else { unreachable!("refused before") };
        self.add_text(data.to_owned(), domain, now);
    }

    fn add_text(&mut self, data: String, domain: &Config, now: u64) {
        self.current += 1;
        let closes = self.next_close(domain, now);
        let version = Version { created: now, closes, deleted: false, data };
        self.versions.insert(self.current, version);
        let most = match (self.config.max_versions, domain.max_versions) {
            (0, 0) => 10,
            (0, domain) => domain,
            (own, _) => own,
        };
        while self.versions.len() as i64 > most {
            self.versions.pop_first();
            self.oldest = *self.versions.keys().next().expect("the new version");
        }
    }

    fn next_close(&self, domain: &Config, now: u64) -> Option<u64> {
        let own = seconds(&self.config.deactivate_version_after).expect("checked before");
        let inherited = seconds(&domain.deactivate_version_after).expect("checked before");
        match (own, inherited) {
            (0, 0) => None,
            (0, seconds) | (seconds, _) => Some(now + seconds * 1_000),
        }
    }
}

impl Version {
    fn state(&self, now: u64) -> &'static str {
        match self.closes {
            _ if self.deleted => "deleted",
            Some(closes) if closes <= now => "deactivated",
            _ => "active",
        }
    }

    fn shown_data(&self, now: u64, asked: bool) -> Option<String> {
        (asked && self.state(now) == "active").then(|| self.data.clone())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "204"),
            Self::Error { status, codes, data } => {
                write!(f, "{status} with error_code in {codes:?}")?;
                match data {
                    Some(data) => write!(f, " and data {data}"),
                    None => Ok(()),
                }
            }
            Self::Body { body, data, next } => {
                let data = data.as_ref().map_or("", |(_, data)| data);
                write!(f, "200 {}", body.to_string().replace(&format!("\"{DATA}\""), data))?;
                if next.is_some() { write!(f, " [and another page]") } else { Ok(()) }
            }
        }
    }
}

fn body_of(body: Value) -> Expected {
    Expected::Body { body, data: None, next: None }
}

fn secret_not_found() -> Expected {
    Expected::Error { status: 404, codes: vec![SECRET_NOT_FOUND], data: None }
}

fn version_not_found() -> Expected {
    Expected::Error { status: 404, codes: vec![VERSION_NOT_FOUND], data: None }
}

fn cas_is_wrong() -> Expected {
    Expected::Error { status: 400, codes: vec![CAS], data: None }
}

/// The path that an address names.
pub fn decoded(at: &Address) -> String {
    match at.form {
        Form::Twice => at.path.replace('/', "%2F"),
        _ => at.path.clone(),
    }
}

fn is_path(path: &str) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "_.:/=@-".contains(letter);
    path.chars().all(good) && path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

fn page_size(page: Page) -> usize {
    page.size.map_or(100, |size| size.parse().expect("checked before"))
}

fn page_faults(page: Page) -> Vec<i64> {
    let size = page.size.map_or(Ok(100), str::parse);
    let size_is_good = matches!(size, Ok(10..=500));
    let cursor_is_good = !matches!(page.cursor, Cursor::Junk);
    if size_is_good && cursor_is_good { vec![] } else { vec![MALFORMED] }
}

fn settings_faults(settings: &Settings) -> Vec<i64> {
    let mut faults = Vec::new();
    if matches!(settings.max_versions, Field::Is(number) if !(0..=24_000).contains(&number)) {
        faults.push(MAX_VERSIONS);
    }
    if matches!(settings.deactivate_version_after, Field::Is(text) if seconds(text).is_none()) {
        faults.push(DEACTIVATE_VERSION_AFTER);
    }
    faults
}

fn data_fault(data: Data) -> Option<i64> {
    match data {
        Data::Absent | Data::Missing => Some(FIELD_REQUIRED),
        Data::Null | Data::Array => Some(DATA_NOT_AN_OBJECT),
        Data::Object(..) => None,
    }
}

fn cas_fault(text: &str) -> Option<i64> {
    (!is_number_from(0, text)).then_some(MALFORMED)
}

fn is_number_from(least: i64, text: &str) -> bool {
    let digits = text.chars().all(|letter| letter.is_ascii_digit());
    digits && text.parse().is_ok_and(|number: i64| (least..=24_000).contains(&number))
}

/// The durations of the alphabet; `None` for those that are none.
fn seconds(text: &str) -> Option<u64> {
    match text {
        "" | "0s" | "0h" => Some(0),
        "1s500ms" => Some(1),
        "2s" => Some(2),
        "3" => Some(3),
        "1m" => Some(60),
        "1d" => Some(86_400),
        "90m5s" => Some(5_405),
        _ => None,
    }
}

fn time_text(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).expect("a time of this age");
    let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time of this age");
    time.format(&Rfc3339).expect("a text")
}

const SECRET_NOT_FOUND: i64 = 17_125_377;
const VERSION_NOT_FOUND: i64 = 17_125_378;
const VERSION_CLOSED: i64 = 17_125_379;
const MALFORMED: i64 = 50_405_377;
const EXISTS: i64 = 50_438_145;
const FIELD_REQUIRED: i64 = 17_137_664 + 1;
const SECRET_PATH: i64 = 17_137_664 + 2;
const DATA_NOT_AN_OBJECT: i64 = 17_137_664 + 3;
const CUSTOM_METADATA: i64 = 17_137_664 + 5;
const DEACTIVATE_VERSION_AFTER: i64 = 17_137_664 + 6;
const MAX_VERSIONS: i64 = 17_137_664 + 7;
const VERSION: i64 = 17_137_664 + 8;
const CAS: i64 = 17_137_664 + 10;
const STATE: i64 = 17_137_664 + 11;
