//! The data of a version.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{Argument, Error, json::Json};

/// The data of a version: a JSON object, kept as compact text.
///
/// Numbers, strings and the order of keys are those that the writer gave. The text is wiped when it
/// is dropped, and there is no `Debug` of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData(Zeroizing<String>);

impl SecretData {
    /// The largest size of data in bytes of compact JSON: 64 KiB, the bound of the service.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// How deep data may nest, the object itself included. Real secrets are a few levels deep;
    /// readers of other languages recurse, and their stacks are not ours to try.
    pub const MAX_DEPTH: usize = 32;

    /// Takes a JSON object as data.
    ///
    /// # Errors
    ///
    /// [`Argument::DataNotAnObject`], [`Argument::DataTooLarge`].
    pub fn from_json(json: &Json) -> Result<Self, Error> {
        if !matches!(json, Json::Object(_)) {
            return Err(Error::argument(
                Argument::DataNotAnObject,
                format!("data must be a JSON object, not {}", json.type_name()),
            ));
        }
        if json.depth() > Self::MAX_DEPTH {
            return Err(Error::argument(
                Argument::DataTooLarge,
                "data must not nest deeper than 32 levels",
            ));
        }
        let text = json.to_compact();
        if text.len() > Self::MAX_BYTES {
            return Err(Error::argument(
                Argument::DataTooLarge,
                "data must have at most 65536 bytes as compact JSON",
            ));
        }
        Ok(Self(text))
    }

    /// The data as it is after a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    ///
    /// See [`SecretData::from_json`].
    pub fn merged(&self, patch: &Json) -> Result<Self, Error> {
        let mut json = self.to_json()?;
        json.merge(patch);
        Self::from_json(&json)
    }

    /// The keys inside the data without their values, as JSON: down to `depth` levels, or all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where stored data is not JSON.
    pub fn keys(&self, depth: Option<usize>) -> Result<Self, Error> {
        match self.to_json()?.keys(depth.unwrap_or(usize::MAX)) {
            // Of an object without members nothing is left but itself.
            Json::Null => Ok(Self(Zeroizing::new("{}".to_owned()))),
            keys => Ok(Self(keys.to_compact())),
        }
    }

    fn to_json(&self) -> Result<Json, Error> {
        let broken = |refusal| Error::Internal(format!("stored data {refusal}"));
        Json::parse(self.as_str().as_bytes()).map_err(broken)
    }

    /// Takes back what [`SecretData::as_str`] gave out earlier.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the bytes are not text; they were sealed as text.
    pub fn from_stored(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        String::from_utf8(std::mem::take(&mut *bytes))
            .map(|text| Self(Zeroizing::new(text)))
            .map_err(|refused| {
                drop(Zeroizing::new(refused.into_bytes()));
                Error::Internal("opened data is not UTF-8".into())
            })
    }

    /// The compact JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretData {
    fn drop(&mut self) {
        // As one piece. A `String` wipes itself byte by byte, at 1 ns each; of this one, only the room behind the
        // text is left to it, which it wipes as one piece, too.
        self.0.as_mut_str().zeroize();
        self.0.clear();
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretData(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Result<SecretData, Error> {
        SecretData::from_json(&Json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn only_objects_are_data() {
        assert_eq!(data("{}").unwrap().as_str(), "{}");
        for other in ["null", "[]", "\"x\"", "1", "true"] {
            let error = data(other).unwrap_err();
            assert!(matches!(error, Error::Argument(Argument::DataNotAnObject, _)), "{other}");
        }
    }

    #[test]
    fn size_is_counted_as_compact_json() {
        let sized = |bytes: usize| format!("{{ \"k\" :   \"{}\" }}", "x".repeat(bytes - 8));
        assert_eq!(data(&sized(65_536)).unwrap().as_str().len(), 65_536);
        let error = data(&sized(65_537)).unwrap_err();
        assert!(matches!(error, Error::Argument(Argument::DataTooLarge, _)));
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |depth: usize| format!("{}{}{}", "{\"k\":".repeat(depth), 1, "}".repeat(depth));
        assert!(data(&nested(32)).is_ok());
        assert!(data(&nested(33)).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", data(r#"{"password":"hunter2"}"#).unwrap()), "SecretData(…)");
    }
}
