//! File, environment and flags as sources of settings.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Error, value::Value};

/// Something that holds values for settings.
///
/// `key` is `section.name`, as the file has it; `variable` is the name in the environment.
pub(super) trait Source {
    /// Puts the value that this source has for a setting, if it has one, into `slot`, and tells
    /// where it stood.
    fn setting<T: Value>(
        &mut self,
        key: &'static str,
        variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error>;
}

/// A source that goes on after a value that breaks its rule, which then counts as not given.
pub(super) struct Lenient<'a, S> {
    source: &'a mut S,
    errors: Vec<Error>,
}

impl<'a, S: Source> Lenient<'a, S> {
    pub(super) const fn new(source: &'a mut S) -> Self {
        Self { source, errors: Vec::new() }
    }

    /// What was wrong.
    pub(super) fn into_errors(self) -> Vec<Error> {
        self.errors
    }
}

impl<S: Source> Source for Lenient<'_, S> {
    fn setting<T: Value>(
        &mut self,
        key: &'static str,
        variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error> {
        Ok(self.source.setting(key, variable, slot).unwrap_or_else(|error| {
            self.errors.push(error);
            None
        }))
    }
}

/// The values of a configuration file; what is asked for is taken out.
pub(super) struct FileSource<'a> {
    path: &'a Path,
    base: &'a Path,
    table: toml::Table,
}

impl<'a> FileSource<'a> {
    pub(super) fn parse(text: &str, path: &'a Path, base: &'a Path) -> Result<Self, Error> {
        // The error's own `Display` would show the line, and with it perhaps a password.
        let table = text.parse::<toml::Table>().map_err(|error| Error::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| 1 + lines_before(text, span.start)),
            message: error.message().to_owned(),
        })?;
        Ok(Self { path, base, table })
    }

    /// Checks that nothing is left that nobody asked for: a misspelt limit would otherwise be no
    /// limit.
    pub(super) fn finish(self) -> Result<(), Error> {
        let mut keys = Vec::new();
        for (section, value) in &self.table {
            match value.as_table() {
                Some(section_table) if KNOWN_SECTIONS.contains(&section.as_str()) => {
                    keys.extend(section_table.keys().map(|key| format!("{section}.{key}")));
                }
                _ => keys.push(section.clone()),
            }
        }
        if keys.is_empty() { Ok(()) } else { Err(Error::UnknownKeys(self.path.to_owned(), keys)) }
    }
}

impl Source for FileSource<'_> {
    fn setting<T: Value>(
        &mut self,
        key: &'static str,
        _variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error> {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let section = self.table.get_mut(section).and_then(toml::Value::as_table_mut);
        let Some(value) = section.and_then(|table| table.remove(name)) else { return Ok(None) };
        let place = format!("{key} in {}", self.path.display());
        *slot = T::from_toml(&value, self.base).ok_or_else(|| Error::Rule {
            place: place.clone(),
            rule: T::RULE,
            flag: false,
        })?;
        Ok(Some(place))
    }
}

/// The environment, or what a test takes for it.
pub enum Environment {
    /// That of this process.
    OfProcess,
    /// Names and values.
    OfPairs(Vec<(String, String)>),
}

impl Environment {
    /// The value of a variable; an empty one counts as not set, as container tools write it so.
    pub fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = match self {
            // What is not UTF-8 becomes a value that no rule accepts, rather than no value.
            Self::OfProcess => env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            Self::OfPairs(pairs) => {
                pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
        };
        value.map(Zeroizing::new).filter(|value| !value.is_empty())
    }

    /// The same with these variables alone.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        let pair = |name: &&str| Some(((*name).to_owned(), self.variable(name)?.to_string()));
        Self::OfPairs(names.iter().filter_map(pair).collect())
    }

    /// The names of all variables that are set.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::OfProcess => {
                let set = env::vars_os().filter_map(|(name, value)| {
                    // These are copies, and one of them may be a key.
                    let value = Zeroizing::new(value.into_encoded_bytes());
                    (!value.is_empty()).then(|| name.to_string_lossy().into_owned())
                });
                set.collect()
            }
            Self::OfPairs(pairs) => {
                let set = pairs.iter().filter(|(_, value)| !value.is_empty());
                set.map(|(name, _)| name.clone()).collect()
            }
        }
    }

    /// The text of a key in the variable `name`, which tells beside none of the variables `others`.
    pub(super) fn key_text(
        &self,
        name: &str,
        others: &[&str],
    ) -> Result<Option<Zeroizing<String>>, Error> {
        let Some(text) = self.variable(name) else { return Ok(None) };
        match others.iter().find(|other| self.variable(other).is_some()) {
            Some(other) => Err(Error::Both(name.to_owned(), (*other).to_owned())),
            None => Ok(Some(Zeroizing::new(text.trim().to_owned()))),
        }
    }

    /// systemd's folder of credentials.
    pub(super) fn credentials(&self) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY").map(|path| PathBuf::from(&**path))
    }

    pub(super) fn source(&self) -> EnvironmentSource<'_> {
        EnvironmentSource(self)
    }
}

impl From<&[(&str, &str)]> for Environment {
    fn from(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self::OfPairs(pairs.iter().map(owned).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

pub(super) struct EnvironmentSource<'a>(&'a Environment);

impl Source for EnvironmentSource<'_> {
    fn setting<T: Value>(
        &mut self,
        _key: &'static str,
        variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error> {
        let Some(value) = self.0.variable(variable) else { return Ok(None) };
        *slot = T::parse(&value, Path::new("")).ok_or_else(|| Error::Rule {
            place: variable.to_owned(),
            rule: T::RULE,
            flag: false,
        })?;
        Ok(Some(variable.to_owned()))
    }
}

/// Settings given on the command line.
#[derive(Clone, Default)]
pub struct Flags(Vec<Flag>);

#[derive(Clone)]
struct Flag {
    key: &'static str,
    name: &'static str,
    value: Zeroizing<String>,
}

impl Flags {
    /// Adds the value of `flag` for the setting `key`, if it was given.
    #[must_use]
    pub fn with(mut self, key: &'static str, flag: &'static str, value: Option<&str>) -> Self {
        self.0.extend(value.map(|value| Flag {
            key,
            name: flag,
            value: Zeroizing::new(value.to_owned()),
        }));
        self
    }

    pub(super) fn source(&self) -> FlagSource<'_> {
        FlagSource(self)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|flag| flag.name)).finish()
    }
}

pub(super) struct FlagSource<'a>(&'a Flags);

impl Source for FlagSource<'_> {
    fn setting<T: Value>(
        &mut self,
        key: &'static str,
        _variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error> {
        let Some(flag) = self.0.0.iter().find(|flag| flag.key == key) else { return Ok(None) };
        *slot = T::parse(&flag.value, Path::new("")).ok_or_else(|| Error::Rule {
            place: flag.name.to_owned(),
            rule: T::RULE,
            flag: true,
        })?;
        Ok(Some(flag.name.to_owned()))
    }
}

/// Not a source at all: collects what it visits.
#[derive(Default)]
pub(super) struct Listing {
    settings: Vec<(&'static str, &'static str, String)>,
}

impl Listing {
    pub(super) fn into_settings(self) -> Vec<(&'static str, String)> {
        self.settings.into_iter().map(|(key, _, value)| (key, value)).collect()
    }

    pub(super) fn into_names(self) -> Vec<(&'static str, &'static str)> {
        self.settings.into_iter().map(|(key, variable, _)| (key, variable)).collect()
    }
}

impl Source for Listing {
    fn setting<T: Value>(
        &mut self,
        key: &'static str,
        variable: &'static str,
        slot: &mut T,
    ) -> Result<Option<String>, Error> {
        self.settings.push((key, variable, slot.show()));
        Ok(None)
    }
}

/// Takes a path as a file, a variable or a flag gives it.
pub(super) fn resolve(text: &str, base: &Path) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| base.join(text))
}

fn lines_before(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

const KNOWN_SECTIONS: [&str; 11] = [
    "server",
    "tls",
    "tokens",
    "limits",
    "storage",
    "root_key",
    "backup",
    "pki",
    "audit",
    "log",
    "telemetry",
];
