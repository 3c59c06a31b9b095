//! The model: what must be answered, written from the contract in the plainest way.
//!
//! It shares no code with the program, so that a mistake in one of them shows.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::requests::{
    Address, Cursor, Data, Field, Flag, Form, Metadata, Page, Request, Settings,
};

/// A domain as it must be.
pub struct Model {
    pub okms_id: String,
    /// Milliseconds since 1970.
    pub now: u64,
    config: Config,
    secrets: BTreeMap<String, Secret>,
}

#[derive(Clone)]
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
    Error { status: u16, codes: Vec<i64> },
    /// A success without a body.
    Nothing,
    /// A success. `data` is what must stand in the body digit by digit, where the value has
    /// [`DATA`]; `warnings` are counted only. `next` is the key of the last item on the page, where
    /// another page follows.
    Body { body: Value, data: Option<String>, next: Option<String> },
}

/// Stands in a body for the data.
pub const DATA: &str = "(data)";

impl Model {
    pub fn new(okms_id: String, now: u64) -> Self {
        Self { okms_id, now, config: Config::new(), secrets: BTreeMap::new() }
    }

    /// The number of the current version; 0 where there is no such secret.
    pub fn current_version(&self, path: &str) -> i64 {
        self.secrets.get(path).map_or(0, |secret| secret.current)
    }

    /// All secrets with their versions.
    pub fn versions(&self) -> Vec<(String, i64)> {
        let secrets = self.secrets.iter();
        let versions = secrets.flat_map(|(path, secret)| {
            secret.versions.keys().map(|version| (path.clone(), *version))
        });
        versions.collect()
    }

    /// What the request must be answered, and its effect. `after` is the key that the cursor stands
    /// for.
    pub fn answer(&mut self, request: &Request, after: Option<&str>) -> Expected {
        let path = request.address().map(decoded).unwrap_or_default();
        let current = self.current_version(&path);
        let mut faults = Vec::new();
        if request.address().is_some() && !is_path(&path) {
            faults.push(SECRET_PATH);
        }
        match request {
            Request::Wait { millis } => self.now += millis,
            Request::FillSecrets | Request::FillVersions { .. } => unreachable!("taken apart"),
            Request::List { page } => {
                faults.extend(page_faults(*page));
                if faults.is_empty() {
                    return self.list(*page, after);
                }
            }
            Request::Create { path, metadata, data, typo } => {
                faults.extend(metadata_faults(metadata));
                faults.extend(data_fault(*data));
                if faults.is_empty() {
                    return self.create(path, metadata, *data, *typo);
                }
            }
            Request::Read { version, include_data, .. } => {
                let version = version.map(|version| version.text(current));
                faults.extend(flag_fault(*include_data));
                faults.extend(version.as_ref().and_then(|version| version_fault(version)));
                if faults.is_empty() {
                    let version = version.map(|version| version.parse().expect("a number"));
                    return self.read(&path, version, matches!(include_data, Flag::True));
                }
            }
            Request::Update { cas, metadata, data, typo, .. } => {
                let cas = cas.map(|cas| cas.text(current));
                faults.extend(cas.as_ref().and_then(|cas| cas_fault(cas)));
                faults.extend(metadata_faults(metadata));
                if !matches!(data, Data::Absent) {
                    faults.extend(data_fault(*data));
                } else if !says_something(metadata) {
                    faults.push(FIELD_REQUIRED);
                }
                if faults.is_empty() {
                    let cas = cas.map(|cas| cas.parse().expect("a number"));
                    return match self.write(&path, cas, metadata, *data) {
                        Err(refused) => refused,
                        Ok(()) => {
                            let warnings = self.warnings(metadata, *typo);
                            self.written(&path, warnings)
                        }
                    };
                }
            }
            Request::Delete { .. } => {
                if faults.is_empty() {
                    return match self.secrets.remove(&path) {
                        Some(_) => Expected::Nothing,
                        None => secret_not_found(),
                    };
                }
            }
            Request::ListVersions { page, .. } => {
                faults.extend(page_faults(*page));
                if faults.is_empty() {
                    return self.list_versions(&path, *page, after);
                }
            }
            Request::AddVersion { cas, data, typo, .. } => {
                let cas = cas.map(|cas| cas.text(current));
                faults.extend(cas.as_ref().and_then(|cas| cas_fault(cas)));
                faults.extend(data_fault(*data));
                if faults.is_empty() {
                    let cas = cas.map(|cas| cas.parse().expect("a number"));
                    return match self.write(&path, cas, &NO_METADATA, *data) {
                        Err(refused) => refused,
                        Ok(()) => {
                            let secret = &self.secrets[&path];
                            let id = secret.current;
                            let mut body = secret.versions[&id].json(id, self.now, false);
                            add_warnings(&mut body, usize::from(*typo));
                            body_of(body)
                        }
                    };
                }
            }
            Request::ReadVersion { version, include_data, .. } => {
                let version = version.text(current);
                faults.extend(flag_fault(*include_data));
                faults.extend(version_fault(&version));
                if faults.is_empty() {
                    let version = version.parse().expect("a number");
                    return self.read_version(&path, version, matches!(include_data, Flag::True));
                }
            }
            Request::SetState { version, state, typo, .. } => {
                let version = version.text(current);
                faults.extend(version_fault(&version));
                faults.extend(match state {
                    None => Some(FIELD_REQUIRED),
                    Some("active" | "deactivated" | "deleted") => None,
                    Some(_) => Some(STATE),
                });
                if faults.is_empty() {
                    let version = version.parse().expect("a number");
                    return self.set_state(&path, version, state.expect("a state"), *typo);
                }
            }
            Request::ReadConfig => return body_of(self.config.json()),
            Request::UpdateConfig { settings, typo } => {
                faults.extend(settings_faults(settings));
                if !changes_something(settings) {
                    faults.push(FIELD_REQUIRED);
                }
                if faults.is_empty() {
                    self.config.change(settings);
                    let mut body = self.config.json();
                    add_warnings(&mut body, usize::from(*typo));
                    return body_of(body);
                }
            }
        }
        if faults.is_empty() {
            return Expected::Nothing;
        }
        Expected::Error { status: 400, codes: faults }
    }

    fn list(&self, page: Page, after: Option<&str>) -> Expected {
        let after = if matches!(page.cursor, Cursor::Next) { after.unwrap_or("") } else { "" };
        let later: Vec<_> = self.secrets.iter().filter(|(path, _)| &path[..] > after).collect();
        let shown = &later[..later.len().min(page_size(page))];
        let items = shown.iter().map(|(path, secret)| {
            let version = secret.versions[&secret.current].json(secret.current, self.now, false);
            json!({ "path": path, "metadata": self.metadata(path), "version": version })
        });
        let more = later.len() > shown.len();
        let last = shown.last().map(|(path, _)| (*path).clone());
        Expected::Body { body: items.collect(), data: None, next: last.filter(|_| more) }
    }

    fn list_versions(&self, path: &str, page: Page, after: Option<&str>) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let after = after.filter(|_| matches!(page.cursor, Cursor::Next));
        let after: i64 = after.map_or(0, |after| after.parse().expect("a version number"));
        let later: Vec<_> = secret.versions.iter().filter(|(id, _)| **id > after).collect();
        let shown = &later[..later.len().min(page_size(page))];
        let items = shown.iter().map(|(id, version)| version.json(**id, self.now, false));
        let more = later.len() > shown.len();
        let last = shown.last().map(|(id, _)| id.to_string());
        Expected::Body { body: items.collect(), data: None, next: last.filter(|_| more) }
    }

    fn create(&mut self, path: &str, metadata: &Metadata, data: Data, typo: bool) -> Expected {
        if self.secrets.contains_key(path) {
            return Expected::Error { status: 409, codes: vec![EXISTS] };
        }
        let mut secret = Secret {
            config: Config::new(),
            custom: BTreeMap::new(),
            current: 0,
            oldest: 0,
            created: self.now,
            updated: self.now,
            versions: BTreeMap::new(),
        };
        secret.change(metadata);
        secret.add(data, &self.config, self.now);
        self.secrets.insert(path.to_owned(), secret);
        let warnings = self.warnings(metadata, typo);
        self.written(path, warnings)
    }

    fn read(&self, path: &str, version: Option<i64>, with_data: bool) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let id = version.unwrap_or(secret.current);
        let Some(version) = secret.versions.get(&id) else { return version_not_found() };
        let body = json!({
            "path": path,
            "metadata": self.metadata(path),
            "version": version.json(id, self.now, with_data),
        });
        Expected::Body { body, data: version.shown_data(self.now, with_data), next: None }
    }

    fn read_version(&self, path: &str, id: i64, with_data: bool) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let Some(version) = secret.versions.get(&id) else { return version_not_found() };
        let body = version.json(id, self.now, with_data);
        Expected::Body { body, data: version.shown_data(self.now, with_data), next: None }
    }

    fn set_state(&mut self, path: &str, id: i64, state: &str, typo: bool) -> Expected {
        let now = self.now;
        let Some(secret) = self.secrets.get_mut(path) else { return secret_not_found() };
        let closes = secret.next_close(&self.config, now);
        let Some(version) = secret.versions.get_mut(&id) else { return version_not_found() };
        match (version.state(now), state) {
            (present, wanted) if present == wanted => {}
            ("deleted", _) => return Expected::Error { status: 400, codes: vec![STATE] },
            (_, "active") => version.closes = closes,
            ("active", "deactivated") => version.closes = Some(now),
            ("active", "deleted") => (version.closes, version.deleted) = (Some(now), true),
            (_, "deleted") => version.deleted = true,
            (present, wanted) => unreachable!("{present} to {wanted}"),
        }
        let mut body = version.json(id, now, false);
        add_warnings(&mut body, usize::from(typo));
        body_of(body)
    }

    /// Changes metadata, adds a version, or both.
    fn write(
        &mut self,
        path: &str,
        cas: Option<i64>,
        metadata: &Metadata,
        data: Data,
    ) -> Result<(), Expected> {
        let Some(secret) = self.secrets.get(path) else { return Err(secret_not_found()) };
        let mut secret = secret.clone();
        secret.change(metadata);
        let required = secret.config.cas_required || self.config.cas_required;
        let right = match cas {
            Some(cas) => cas == secret.current,
            None => !required,
        };
        if !right {
            return Err(Expected::Error { status: 400, codes: vec![CAS] });
        }
        secret.updated = self.now;
        if !matches!(data, Data::Absent) {
            secret.add(data, &self.config, self.now);
        }
        self.secrets.insert(path.to_owned(), secret);
        Ok(())
    }

    fn warnings(&self, metadata: &Metadata, typo: bool) -> usize {
        let without_effect =
            metadata.settings.cas_required == Field::Is(false) && self.config.cas_required;
        usize::from(typo) + usize::from(without_effect)
    }

    fn written(&self, path: &str, warnings: usize) -> Expected {
        let mut body = json!({ "path": path, "metadata": self.metadata(path) });
        add_warnings(&mut body, warnings);
        body_of(body)
    }

    fn metadata(&self, path: &str) -> Value {
        let secret = &self.secrets[path];
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
        json!({
            "casRequired": secret.config.cas_required,
            "createdAt": time_text(secret.created),
            "currentVersion": secret.current,
            "customMetadata": secret.custom,
            "deactivateVersionAfter": secret.config.deactivate_version_after,
            "maxVersions": secret.config.max_versions,
            "oldestVersion": secret.oldest,
            "updatedAt": time_text(secret.updated),
            "urn": format!("urn:v1:eu:resource:okms:{}/secret/{in_urn}", self.okms_id),
        })
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

    fn json(&self) -> Value {
        json!({
            "casRequired": self.cas_required,
            "maxVersions": self.max_versions,
            "deactivateVersionAfter": self.deactivate_version_after,
        })
    }
}

impl Secret {
    fn change(&mut self, metadata: &Metadata) {
        self.config.change(&metadata.settings);
        match metadata.custom {
            // An empty map keeps what is there.
            Field::Absent | Field::Is([]) => {}
            Field::Null => self.custom.clear(),
            Field::Is(entries) => {
                let entries = entries.iter();
                self.custom =
                    entries.map(|(key, value)| (key.to_string(), value.to_string())).collect();
            }
        }
    }

    fn add(&mut self, data: Data, domain: &Config, now: u64) {
        let Data::Object(_, data) = data else { unreachable!("refused before") };
        self.current += 1;
        let closes = self.next_close(domain, now);
        let version = Version { created: now, closes, deleted: false, data: data.to_owned() };
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

    fn json(&self, id: i64, now: u64, with_data: bool) -> Value {
        let state = self.state(now);
        let mut json = json!({ "id": id, "state": state, "createdAt": time_text(self.created) });
        if state != "active" {
            json["deactivatedAt"] = time_text(self.closes.expect("closed at some time")).into();
        }
        if self.shown_data(now, with_data).is_some() {
            json["data"] = DATA.into();
        }
        json
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "204"),
            Self::Error { status, codes } => write!(f, "{status} with error_code in {codes:?}"),
            Self::Body { body, data, next } => {
                let data = data.as_deref().unwrap_or_default();
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
    Expected::Error { status: 404, codes: vec![SECRET_NOT_FOUND] }
}

fn version_not_found() -> Expected {
    Expected::Error { status: 404, codes: vec![VERSION_NOT_FOUND] }
}

fn add_warnings(body: &mut Value, warnings: usize) {
    if warnings > 0 {
        body["warnings"] = warnings.into();
    }
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

fn metadata_faults(metadata: &Metadata) -> Vec<i64> {
    let mut faults = settings_faults(&metadata.settings);
    if let Field::Is(entries) = metadata.custom
        && entries.iter().any(|(key, value)| key.is_empty() || value.is_empty())
    {
        faults.push(CUSTOM_METADATA);
    }
    faults
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

/// Whether a change of metadata is one.
fn says_something(metadata: &Metadata) -> bool {
    changes_something(&metadata.settings) || metadata.custom != Field::Absent
}

fn changes_something(settings: &Settings) -> bool {
    matches!(settings.cas_required, Field::Is(_))
        || matches!(settings.max_versions, Field::Is(_))
        || matches!(settings.deactivate_version_after, Field::Is(_))
}

fn data_fault(data: Data) -> Option<i64> {
    match data {
        Data::Absent | Data::Missing => Some(FIELD_REQUIRED),
        Data::Null | Data::Array => Some(DATA_NOT_AN_OBJECT),
        Data::Object(..) => None,
    }
}

fn flag_fault(flag: Flag) -> Option<i64> {
    matches!(flag, Flag::Junk).then_some(MALFORMED)
}

fn version_fault(text: &str) -> Option<i64> {
    (!is_number_from(1, text)).then_some(VERSION)
}

fn cas_fault(text: &str) -> Option<i64> {
    (!is_number_from(0, text)).then_some(CAS)
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
        _ => None,
    }
}

fn time_text(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).expect("a time of this age");
    let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time of this age");
    time.format(&Rfc3339).expect("a text")
}

const NO_METADATA: Metadata = Metadata {
    settings: Settings {
        cas_required: Field::Absent,
        max_versions: Field::Absent,
        deactivate_version_after: Field::Absent,
        snake_case: false,
    },
    custom: Field::Absent,
    flat: false,
};

const SECRET_NOT_FOUND: i64 = 17_125_377;
const VERSION_NOT_FOUND: i64 = 17_125_378;
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
