//! Fields of JSON objects, each taken once.

use crate::domain::{
    Argument, CustomMetadata, Error, SecretConfigPatch, SecretData, VersionLifetime, json::Json,
};

/// The fields of an object that have not been taken yet.
pub(super) struct Fields<'j> {
    /// Where the object stands, as a prefix of field names: `metadata.` or nothing.
    place: &'static str,
    members: Vec<(&'j str, &'j Json)>,
}

/// A field of the wire and its other spelling.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub(super) camel: &'static str,
    pub(super) snake: &'static str,
}

impl<'j> Fields<'j> {
    /// The fields of a body.
    ///
    /// # Errors
    ///
    /// When it is not an object.
    pub(super) fn of_body(json: &'j Json) -> Result<Self, Error> {
        match json {
            Json::Object(members) => Ok(Self::new("", members)),
            other => {
                let found = other.type_name();
                Err(Error::malformed(format!("the body must be a JSON object, not {found}")))
            }
        }
    }

    /// Takes the fields of the object `name`; `None` where it is absent or null.
    ///
    /// # Errors
    ///
    /// When it is something else than an object.
    pub(super) fn object(
        &mut self,
        name: &'static str,
        place: &'static str,
    ) -> Result<Option<Self>, Error> {
        match self.take(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(members)) => Ok(Some(Self::new(place, members))),
            Some(other) => Err(self.wrong_type(name, "an object", other)),
        }
    }

    /// Takes a string; `None` where it is absent or null.
    ///
    /// # Errors
    ///
    /// When it is something else than a string.
    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<&'j str>, Error> {
        match self.take(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(name, "a string", other)),
        }
    }

    /// Takes data; `None` where it is absent. Null is no data.
    ///
    /// # Errors
    ///
    /// See [`SecretData::from_json`].
    pub(super) fn data(&mut self) -> Result<Option<SecretData>, Error> {
        self.take("data").map(SecretData::from_json).transpose()
    }

    /// Takes the three settings that secrets and domains share; absent and null ones stay as they
    /// are.
    ///
    /// # Errors
    ///
    /// When one of them is of another type or out of its bounds.
    pub(super) fn config(&mut self) -> Result<SecretConfigPatch, Error> {
        let cas_required = match self.take_either(CAS_REQUIRED)? {
            None | Some(Json::Null) => None,
            Some(Json::Bool(value)) => Some(*value),
            Some(other) => return Err(self.wrong_type(CAS_REQUIRED.camel, "a boolean", other)),
        };
        let max_versions = match self.take_either(MAX_VERSIONS)? {
            None | Some(Json::Null) => None,
            Some(Json::Number(digits)) => {
                // Anything but a plain integer becomes a number that is out of bounds.
                let number = digits.parse().unwrap_or(u64::MAX);
                Some(SecretConfigPatch::check_max_versions(number)?)
            }
            Some(other) => return Err(self.wrong_type(MAX_VERSIONS.camel, "a number", other)),
        };
        let deactivate_version_after = match self.take_either(DEACTIVATE_VERSION_AFTER)? {
            None | Some(Json::Null) => None,
            Some(Json::String(text)) => Some(VersionLifetime::parse(text)?),
            Some(other) => {
                return Err(self.wrong_type(DEACTIVATE_VERSION_AFTER.camel, "a string", other));
            }
        };
        Ok(SecretConfigPatch { cas_required, max_versions, deactivate_version_after })
    }

    /// Takes custom metadata: absent, null, or a map.
    ///
    /// # Errors
    ///
    /// When it is something else, or breaks a rule of [`CustomMetadata`].
    pub(super) fn custom_metadata(&mut self) -> Result<Given<CustomMetadata>, Error> {
        let members = match self.take_either(CUSTOM_METADATA)? {
            None => return Ok(Given::Absent),
            Some(Json::Null) => return Ok(Given::Null),
            Some(Json::Object(members)) => members,
            Some(other) => return Err(self.wrong_type(CUSTOM_METADATA.camel, "an object", other)),
        };
        let entries = members.iter().map(|(key, value)| match value {
            Json::String(text) => Ok((key.to_string(), text.to_string())),
            _ => Err(Error::argument(
                Argument::CustomMetadata,
                "customMetadata values must be strings",
            )),
        });
        Ok(Given::Value(CustomMetadata::new(entries.collect::<Result<_, _>>()?)?))
    }

    /// Whether a field is there under either spelling.
    pub(super) fn has(&self, name: Name) -> bool {
        self.members.iter().any(|(key, _)| *key == name.camel || *key == name.snake)
    }

    /// Says of each field that is left that it was ignored, so that a mistyped name does not pass in
    /// silence and a newer client still works.
    pub(super) fn ignored(self) -> Vec<String> {
        let mut warnings = Vec::new();
        let count = self.members.len();
        for (name, _) in self.members.into_iter().take(MAX_NAMED) {
            let name: String = name.chars().filter(|char| !char.is_control()).take(64).collect();
            warnings.push(format!("unknown field {}{name} was ignored", self.place));
        }
        if count > MAX_NAMED {
            warnings.push(format!("{} more unknown fields were ignored", count - MAX_NAMED));
        }
        warnings
    }

    /// Refuses fields that are left: a mistyped name does not pass in silence.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names one of them.
    pub(super) fn refuse_unknown(self) -> Result<(), Error> {
        match self.ignored().into_iter().next() {
            Some(text) => Err(Error::malformed(text.replace("was ignored", "is not taken here"))),
            None => Ok(()),
        }
    }

    fn new(place: &'static str, members: &'j [(zeroize::Zeroizing<String>, Json)]) -> Self {
        let members = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Self { place, members }
    }

    /// Takes whatever has this name.
    pub(super) fn take(&mut self, name: &str) -> Option<&'j Json> {
        // Keys of one object are distinct, so there is at most one.
        let found = self.members.iter().position(|(key, _)| *key == name)?;
        Some(self.members.remove(found).1)
    }

    fn take_either(&mut self, name: Name) -> Result<Option<&'j Json>, Error> {
        match (self.take(name.camel), self.take(name.snake)) {
            (Some(_), Some(_)) => Err(given_twice(name)),
            (camel, snake) => Ok(camel.or(snake)),
        }
    }

    pub(super) fn wrong_type(&self, name: &str, expected: &str, found: &Json) -> Error {
        let (place, found) = (self.place, found.type_name());
        Error::malformed(format!("{place}{name} must be {expected}, not {found}"))
    }
}

/// A field whose absence, null and value mean three things.
pub(super) enum Given<T> {
    Absent,
    Null,
    Value(T),
}

/// The same field in both spellings, or in two places.
pub(super) fn given_twice(name: Name) -> Error {
    let Name { camel, snake } = name;
    Error::malformed(if camel == snake {
        format!("{camel} is given twice")
    } else {
        format!("{camel} ({snake}) is given twice")
    })
}

pub(super) const CAS_REQUIRED: Name = Name { camel: "casRequired", snake: "cas_required" };
pub(super) const MAX_VERSIONS: Name = Name { camel: "maxVersions", snake: "max_versions" };
pub(super) const DEACTIVATE_VERSION_AFTER: Name =
    Name { camel: "deactivateVersionAfter", snake: "deactivate_version_after" };
pub(super) const CUSTOM_METADATA: Name = Name { camel: "customMetadata", snake: "custom_metadata" };

/// Unknown fields that are named one by one: enough to find a mistake, too few to make an answer
/// larger than its request.
const MAX_NAMED: usize = 16;
