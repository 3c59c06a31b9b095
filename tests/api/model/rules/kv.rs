//! What KV2 must answer.

use serde_json::{Value, json};

use super::{tree::Tree, *};
use crate::model::requests::{Cas, Kv, KvSettings, Operation, Versions, VersionsForm};

impl Model {
    /// What the request must be answered, and its effect. `after` is where the page begins that the
    /// cursor stands for.
    pub fn answer_kv(&mut self, request: &Kv, after: Option<&str>) -> Expected {
        let path = request.address().map(decoded).unwrap_or_default();
        let current = self.current_version(&path);
        let mut faults = Vec::new();
        if request.address().is_some() && !is_path(&path) {
            faults.push(SECRET_PATH);
        }
        if request.has_typo() {
            faults.push(MALFORMED);
        }
        match request {
            Kv::ReadConfig => return answered(self.config.kv_json()),
            Kv::WriteConfig { settings, .. } => {
                faults.extend(settings_faults(&settings.values));
                if faults.is_empty() {
                    self.config.change_kv(&settings.values, false);
                    return Expected::Nothing;
                }
            }
            Kv::Write { cas, data, .. } => {
                let (cas, fault) = read_cas(*cas, current);
                faults.extend(fault);
                faults.extend(data_fault(*data));
                if faults.is_empty() {
                    return self.kv_write(&path, cas, *data);
                }
            }
            Kv::Patch { cas, data, .. } => {
                let (cas, fault) = read_cas(*cas, current);
                faults.extend(fault);
                faults.extend(data_fault(*data));
                if faults.is_empty() {
                    return self.kv_patch(&path, cas, *data);
                }
            }
            Kv::Read { version, .. } => {
                let version = version.map(|version| version.text(current));
                faults.extend(version.as_ref().and_then(|text| kv_version_fault(text)));
                if faults.is_empty() {
                    return self.kv_read(&path, version, "data", |data| data.to_owned());
                }
            }
            Kv::ReadKeys { version, depth, .. } => {
                let version = version.map(|version| version.text(current));
                faults.extend(version.as_ref().and_then(|text| kv_version_fault(text)));
                let depth: Result<usize, _> = depth.map_or(Ok(0), str::parse);
                if depth.is_err() {
                    faults.push(MALFORMED);
                }
                if faults.is_empty() {
                    let depth = match depth.expect("checked before") {
                        0 => usize::MAX,
                        depth => depth,
                    };
                    let keys = |data: &str| Tree::read(data).keys(depth).to_string();
                    return self.kv_read(&path, version, "subkeys", keys);
                }
            }
            Kv::DeleteData { .. } => {
                if faults.is_empty() {
                    return self.kv_set_states(&path, Operation::Delete, &[current]);
                }
            }
            Kv::SetStates { operation, versions, .. } => {
                let (versions, fault) = read_versions(versions, current);
                faults.extend(fault);
                if faults.is_empty() {
                    return self.kv_set_states(&path, *operation, &versions);
                }
            }
            Kv::ReadMetadata { .. } => {
                if faults.is_empty() {
                    return self.kv_metadata(&path);
                }
            }
            Kv::WriteMetadata { settings, custom, .. } => {
                faults.extend(settings_faults(&settings.values));
                if matches!(custom, Field::Is(pairs) if pairs.iter().any(|pair| pair.1.is_empty()))
                {
                    faults.push(CUSTOM_METADATA);
                }
                if faults.is_empty() {
                    return self.kv_write_metadata(&path, settings, *custom);
                }
            }
            Kv::PatchMetadata { settings, custom, .. } => {
                faults.extend(settings_faults(&settings.values));
                let bad = matches!(
                    custom,
                    Field::Is(pairs) if pairs.iter().any(|pair| pair.1 == Some(""))
                );
                if faults.is_empty() && !self.secrets.contains_key(&path) {
                    return secret_not_found();
                }
                if bad {
                    faults.push(CUSTOM_METADATA);
                }
                if faults.is_empty() {
                    return self.kv_patch_metadata(&path, settings, *custom);
                }
            }
            Kv::Delete { .. } => {
                if faults.is_empty() {
                    self.secrets.remove(&path);
                    return Expected::Nothing;
                }
            }
            Kv::List { folder, slash, page, .. } => {
                let folder = folder.as_ref().map(|folder| {
                    let path = decoded(folder);
                    // One slash at the end may be there.
                    match path.strip_suffix('/') {
                        Some(path) if !slash => path.to_owned(),
                        _ => path,
                    }
                });
                if folder.as_ref().is_some_and(|folder| !is_path(folder)) {
                    faults.push(SECRET_PATH);
                }
                faults.extend(page_faults(*page));
                let prefix = folder.map_or(String::new(), |folder| format!("{folder}/"));
                let after = after.filter(|_| matches!(page.cursor, Cursor::Next));
                // A cursor counts in its folder alone.
                let of = after.and_then(|after| after.split_once('\n'));
                if of.is_some_and(|(of, _)| of != prefix) {
                    faults.push(MALFORMED);
                }
                if faults.is_empty() {
                    return self.kv_list(&prefix, *page, of.map(|(_, name)| name));
                }
            }
        }
        Expected::Error { status: 400, codes: faults, data: None }
    }

    fn kv_write(&mut self, path: &str, cas: Option<i64>, data: Data) -> Expected {
        let mut secret = self.secrets.get(path).cloned().unwrap_or_else(|| Secret::new(self.now));
        if !secret.cas_is_right(cas, &self.config) {
            return cas_is_wrong();
        }
        secret.updated = self.now;
        secret.add(data, &self.config, self.now);
        let metadata = secret.kv_version(secret.current);
        self.secrets.insert(path.to_owned(), secret);
        answered(metadata)
    }

    fn kv_patch(&mut self, path: &str, cas: Option<i64>, patch: Data) -> Expected {
        let Some(secret) = self.secrets.get_mut(path) else { return secret_not_found() };
        if !secret.cas_is_right(cas, &self.config) {
            return cas_is_wrong();
        }
        let Some(current) = secret.versions.get(&secret.current) else {
            return version_not_found();
        };
        if current.state(self.now) != "active" {
            let metadata = secret.kv_version(secret.current);
            return Expected::Error {
                status: 404,
                codes: vec![VERSION_CLOSED],
                data: Some(metadata),
            };
        }
        let Data::Object(_, patch) = patch else { unreachable!("refused before") };
        let merged = Tree::read(&current.data).merged(&Tree::read(patch)).to_string();
        secret.updated = self.now;
        secret.add_text(merged, &self.config, self.now);
        answered(secret.kv_version(secret.current))
    }

    /// A version with what `shown` makes of its data, under `name`.
    fn kv_read(
        &self,
        path: &str,
        version: Option<String>,
        name: &'static str,
        shown: impl Fn(&str) -> String,
    ) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let id = match version.map_or(0, |version| version.parse().expect("a number")) {
            0 => secret.current,
            id => id,
        };
        let Some(version) = secret.versions.get(&id) else { return version_not_found() };
        let metadata = secret.kv_version(id);
        if version.state(self.now) != "active" {
            let data = Some(json!({ name: null, "metadata": metadata }));
            return Expected::Error { status: 404, codes: vec![VERSION_CLOSED], data };
        }
        let body = enveloped("data", json!({ name: DATA, "metadata": metadata }));
        Expected::Body { body, data: Some((name, shown(&version.data))), next: None }
    }

    fn kv_set_states(&mut self, path: &str, operation: Operation, versions: &[i64]) -> Expected {
        let Some(secret) = self.secrets.get_mut(path) else { return Expected::Nothing };
        let (now, reopened) = (self.now, secret.next_close(&self.config, self.now));
        for id in versions {
            let Some(version) = secret.versions.get_mut(id) else { continue };
            let is_open = version.state(now) == "active";
            if version.deleted {
                continue;
            }
            match operation {
                Operation::Undelete => version.closes = reopened,
                Operation::Delete | Operation::Destroy => {
                    if is_open {
                        version.closes = Some(now);
                    }
                    version.deleted = operation == Operation::Destroy;
                }
            }
        }
        Expected::Nothing
    }

    fn kv_metadata(&self, path: &str) -> Expected {
        let Some(secret) = self.secrets.get(path) else { return secret_not_found() };
        let versions = secret.versions.iter().map(|(id, version)| {
            let version = json!({
                "created_time": nanos(version.created),
                "deletion_time": version.closes.map_or_else(String::new, nanos),
                "destroyed": version.deleted,
            });
            (id.to_string(), version)
        });
        let versions: serde_json::Map<_, _> = versions.collect();
        let config = secret.config.kv_json();
        answered(json!({
            "cas_required": config["cas_required"],
            "created_time": nanos(secret.created),
            "current_version": secret.current,
            "custom_metadata": secret.kv_custom(),
            "delete_version_after": config["delete_version_after"],
            "max_versions": config["max_versions"],
            "oldest_version": secret.oldest,
            "updated_time": nanos(secret.updated),
            "urn": self.urn(path),
            "versions": versions,
        }))
    }

    fn kv_write_metadata(
        &mut self,
        path: &str,
        settings: &KvSettings,
        custom: Field<&'static [(&'static str, &'static str)]>,
    ) -> Expected {
        let Settings { cas_required, max_versions, deactivate_version_after, .. } = settings.values;
        let changes = cas_required != Field::Absent
            || max_versions != Field::Absent
            || matches!(deactivate_version_after, Field::Is(_))
            || custom != Field::Absent;
        if !changes {
            return Expected::Nothing;
        }
        let now = self.now;
        let secret = self.secrets.entry(path.to_owned()).or_insert_with(|| Secret::new(now));
        secret.updated = now;
        secret.config.change_kv(&settings.values, false);
        match custom {
            Field::Absent => {}
            Field::Null => secret.custom.clear(),
            Field::Is(pairs) => {
                let pairs = pairs.iter();
                secret.custom =
                    pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect();
            }
        }
        self.kv_warned(settings)
    }

    fn kv_patch_metadata(
        &mut self,
        path: &str,
        settings: &KvSettings,
        custom: Field<&'static [(&'static str, Option<&'static str>)]>,
    ) -> Expected {
        let secret = self.secrets.get_mut(path).expect("looked for before");
        let before = (secret.config.clone(), secret.custom.clone());
        secret.config.change_kv(&settings.values, true);
        match custom {
            Field::Absent => {}
            Field::Null => secret.custom.clear(),
            Field::Is(pairs) => {
                for (key, value) in pairs {
                    match value {
                        Some(value) => secret.custom.insert(key.to_string(), value.to_string()),
                        None => secret.custom.remove(*key),
                    };
                }
            }
        }
        // What comes out as it was is not written.
        if (&secret.config, &secret.custom) != (&before.0, &before.1) {
            secret.updated = self.now;
        }
        self.kv_warned(settings)
    }

    /// Nothing, or that it has no effect to require no check-and-set.
    fn kv_warned(&self, settings: &KvSettings) -> Expected {
        let lifts = matches!(settings.values.cas_required, Field::Is(false) | Field::Null);
        if lifts && self.config.cas_required {
            return body_of(enveloped("warnings", json!(1)));
        }
        Expected::Nothing
    }

    fn kv_list(&self, prefix: &str, page: Page, after: Option<&str>) -> Expected {
        let below = self.secrets.keys().filter_map(|path| path.strip_prefix(prefix));
        let names: std::collections::BTreeSet<String> = below
            .map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            })
            .collect();
        if names.is_empty() && !prefix.is_empty() && after.is_none() {
            return secret_not_found();
        }
        let is_paged = page.size.is_some()
            || matches!(page.cursor, Cursor::Empty)
            || matches!(page.cursor, Cursor::Next) && after.is_some();
        let later: Vec<_> =
            names.iter().filter(|name| after.is_none_or(|after| &name[..] > after)).collect();
        let most = if is_paged { page_size(page) } else { usize::MAX };
        let shown = &later[..later.len().min(most)];
        let last = shown.last().filter(|_| later.len() > shown.len());
        Expected::Body {
            body: enveloped("data", json!({ "keys": shown })),
            data: None,
            next: last.map(|last| format!("{prefix}\n{last}")),
        }
    }
}

impl Kv {
    fn has_typo(&self) -> bool {
        match self {
            Self::WriteConfig { typo, .. }
            | Self::Write { typo, .. }
            | Self::Patch { typo, .. }
            | Self::SetStates { typo, .. }
            | Self::WriteMetadata { typo, .. }
            | Self::PatchMetadata { typo, .. } => *typo,
            _ => false,
        }
    }
}

impl Config {
    /// Null brings back a default; but a time only where that is asked for.
    fn change_kv(&mut self, settings: &Settings, resets_time: bool) {
        self.change(settings);
        if settings.cas_required == Field::Null {
            self.cas_required = false;
        }
        if settings.max_versions == Field::Null {
            self.max_versions = 0;
        }
        if settings.deactivate_version_after == Field::Null && resets_time {
            self.deactivate_version_after = "0s".to_owned();
        }
    }

    fn kv_json(&self) -> Value {
        // As Go writes durations.
        let delete_version_after = match &self.deactivate_version_after[..] {
            "0s" | "0h" => "0s",
            "1s500ms" => "1s",
            "2s" => "2s",
            "3" => "3s",
            "1m" => "1m0s",
            "1d" => "24h0m0s",
            "90m5s" => "1h30m5s",
            other => unreachable!("{other}"),
        };
        json!({
            "cas_required": self.cas_required,
            "delete_version_after": delete_version_after,
            "max_versions": self.max_versions,
        })
    }
}

impl Secret {
    fn kv_custom(&self) -> Value {
        if self.custom.is_empty() { Value::Null } else { json!(self.custom) }
    }

    fn kv_version(&self, id: i64) -> Value {
        let version = &self.versions[&id];
        json!({
            "created_time": nanos(version.created),
            "custom_metadata": self.kv_custom(),
            "deletion_time": version.closes.map_or_else(String::new, nanos),
            "destroyed": version.deleted,
            "version": id,
        })
    }
}

fn answered(data: Value) -> Expected {
    body_of(enveloped("data", data))
}

/// What stands beside all that is answered.
fn enveloped(name: &str, value: Value) -> Value {
    json!({
        "request_id": REQUEST_ID,
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        name: value,
    })
}

fn read_cas(cas: Option<Cas>, current: i64) -> (Option<i64>, Option<i64>) {
    match cas {
        None | Some(Cas::Null) => (None, None),
        Some(Cas::Number(number) | Cas::Text(number)) => {
            let text = number.text(current);
            match cas_fault(&text) {
                Some(fault) => (None, Some(fault)),
                None => (text.parse().ok(), None),
            }
        }
    }
}

fn read_versions(versions: &Versions, current: i64) -> (Vec<i64>, Option<i64>) {
    if versions.form == VersionsForm::Absent || versions.numbers.is_empty() {
        return (Vec::new(), Some(FIELD_REQUIRED));
    }
    let texts: Vec<_> = versions.numbers.iter().map(|number| number.text(current)).collect();
    let fault = texts.iter().find_map(|text| kv_version_fault(text));
    (texts.iter().filter_map(|text| text.parse().ok()).collect(), fault)
}

/// A whole number, of any version or none.
fn kv_version_fault(text: &str) -> Option<i64> {
    let is_number = text.chars().all(|letter| letter.is_ascii_digit());
    (!is_number || text.parse::<u32>().is_err()).then_some(VERSION)
}

fn nanos(millis: u64) -> String {
    let seconds = time_text(millis);
    format!("{}.{:03}000000Z", seconds.trim_end_matches('Z'), millis % 1_000)
}
