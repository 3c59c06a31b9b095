//! What v2 must answer.

use serde_json::{Value, json};

use super::*;
use crate::model::requests::{Flag, Metadata, Request};

impl Model {
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
            Request::Kv(request) => return self.answer_kv(request, after),
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
                        Err(refused) => *refused,
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
                let after = after.filter(|_| matches!(page.cursor, Cursor::Next));
                // A cursor counts for the versions of its secret alone, be there another one or none.
                let of = after.and_then(|after| after.split_once('\n'));
                if of.is_some_and(|(of, _)| of != path) {
                    faults.push(MALFORMED);
                }
                if faults.is_empty() {
                    return self.list_versions(&path, *page, of.map(|(_, version)| version));
                }
            }
            Request::AddVersion { cas, data, typo, .. } => {
                let cas = cas.map(|cas| cas.text(current));
                faults.extend(cas.as_ref().and_then(|cas| cas_fault(cas)));
                faults.extend(data_fault(*data));
                if faults.is_empty() {
                    let cas = cas.map(|cas| cas.parse().expect("a number"));
                    return match self.write(&path, cas, &NO_METADATA, *data) {
                        Err(refused) => *refused,
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
        Expected::Error { status: 400, codes: faults, data: None }
    }

    fn list(&self, page: Page, after: Option<&str>) -> Expected {
        let after = if matches!(page.cursor, Cursor::Next) { after.unwrap_or("") } else { "" };
        let later: Vec<_> = self.secrets.iter().filter(|(path, _)| &path[..] > after).collect();
        let shown = &later[..later.len().min(page_size(page))];
        let items = shown.iter().map(|(path, secret)| {
            let mut item = json!({ "path": path, "metadata": self.metadata(path) });
            // KV2 makes secrets without versions.
            if let Some(version) = secret.versions.get(&secret.current) {
                item["version"] = version.json(secret.current, self.now, false);
            }
            item
        });
        let more = later.len() > shown.len();
        let last = shown.last().map(|(path, _)| (*path).clone());
        Expected::Body { body: items.collect(), data: None, next: last.filter(|_| more) }
    }

    fn list_versions(&self, path: &str, page: Page, after: Option<&str>) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let after: i64 = after.map_or(0, |after| after.parse().expect("a version number"));
        let later: Vec<_> = secret.versions.iter().filter(|(id, _)| **id > after).collect();
        let shown = &later[..later.len().min(page_size(page))];
        let items = shown.iter().map(|(id, version)| version.json(**id, self.now, false));
        let more = later.len() > shown.len();
        let last = shown.last().map(|(id, _)| format!("{path}\n{id}"));
        Expected::Body { body: items.collect(), data: None, next: last.filter(|_| more) }
    }

    fn create(&mut self, path: &str, metadata: &Metadata, data: Data, typo: bool) -> Expected {
        if self.secrets.contains_key(path) {
            return Expected::Error { status: 409, codes: vec![EXISTS], data: None };
        }
        let mut secret = Secret::new(self.now);
        secret.change(metadata);
        secret.add(data, &self.config, self.now);
        self.secrets.insert(path.to_owned(), secret);
        // Raw, its address would be the one of the versions of another secret.
        let is_misread = usize::from(path.ends_with("/version"));
        let warnings = self.warnings(metadata, typo) + is_misread;
        self.written(path, warnings)
    }

    fn read(&self, path: &str, version: Option<i64>, with_data: bool) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        if version.is_none() && secret.current == 0 {
            return body_of(json!({ "path": path, "metadata": self.metadata(path) }));
        }
        let id = version.unwrap_or(secret.current);
        let Some(version) = secret.versions.get(&id) else { return version_not_found() };
        let body = json!({
            "path": path,
            "metadata": self.metadata(path),
            "version": version.json(id, self.now, with_data),
        });
        Expected::Body {
            body,
            data: version.shown_data(self.now, with_data).map(|data| ("data", data)),
            next: None,
        }
    }

    fn read_version(&self, path: &str, id: i64, with_data: bool) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let Some(version) = secret.versions.get(&id) else { return version_not_found() };
        let body = version.json(id, self.now, with_data);
        Expected::Body {
            body,
            data: version.shown_data(self.now, with_data).map(|data| ("data", data)),
            next: None,
        }
    }

    fn set_state(&mut self, path: &str, id: i64, state: &str, typo: bool) -> Expected {
        let now = self.now;
        let Some(secret) = self.secrets.get_mut(path) else { return secret_not_found() };
        let closes = secret.next_close(&self.config, now);
        let Some(version) = secret.versions.get_mut(&id) else { return version_not_found() };
        match (version.state(now), state) {
            (present, wanted) if present == wanted => {}
            ("deleted", _) => {
                return Expected::Error { status: 400, codes: vec![STATE], data: None };
            }
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
    ) -> Result<(), Box<Expected>> {
        let Some(secret) = self.secrets.get(path) else { return Err(secret_not_found().into()) };
        let mut secret = secret.clone();
        secret.change(metadata);
        if !secret.cas_is_right(cas, &self.config) {
            return Err(cas_is_wrong().into());
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
        json!({
            "casRequired": secret.config.cas_required,
            "createdAt": time_text(secret.created),
            "currentVersion": secret.current,
            "customMetadata": secret.custom,
            "deactivateVersionAfter": secret.config.deactivate_version_after,
            "maxVersions": secret.config.max_versions,
            "oldestVersion": secret.oldest,
            "updatedAt": time_text(secret.updated),
            "urn": self.urn(path),
        })
    }
}

impl Config {
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
}

impl Version {
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

fn add_warnings(body: &mut Value, warnings: usize) {
    if warnings > 0 {
        body["warnings"] = warnings.into();
    }
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

/// Whether a change of metadata is one.
fn says_something(metadata: &Metadata) -> bool {
    changes_something(&metadata.settings) || metadata.custom != Field::Absent
}

fn changes_something(settings: &Settings) -> bool {
    matches!(settings.cas_required, Field::Is(_))
        || matches!(settings.max_versions, Field::Is(_))
        || matches!(settings.deactivate_version_after, Field::Is(_))
}

fn flag_fault(flag: Flag) -> Option<i64> {
    matches!(flag, Flag::Junk).then_some(MALFORMED)
}

fn version_fault(text: &str) -> Option<i64> {
    (!is_number_from(1, text)).then_some(VERSION)
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
