//! How each type of value is written in a file, in the environment and on the command line.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, path::PathBuf, time::Duration};

use super::source::resolve;

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// What a value must be; follows on the name of the setting in messages.
    const RULE: &'static str;

    /// Reads the text of a value. Relative paths start at `base`.
    fn parse(text: &str, base: &Path) -> Option<Self>;

    /// Reads a value of a file.
    fn from_toml(value: &toml::Value, base: &Path) -> Option<Self> {
        Self::parse(value.as_str()?, base)
    }

    /// The value as it would be written, without what is secret in it.
    fn show(&self) -> String;
}

impl Value for PathBuf {
    const RULE: &'static str = "must be the path of a file";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        resolve(text, base)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for bool {
    const RULE: &'static str = "must be true or false";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &toml::Value, _base: &Path) -> Option<Self> {
        value.as_bool()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Value> Value for Option<T> {
    const RULE: &'static str = T::RULE;

    fn parse(text: &str, base: &Path) -> Option<Self> {
        T::parse(text, base).map(Some)
    }

    fn from_toml(value: &toml::Value, base: &Path) -> Option<Self> {
        T::from_toml(value, base).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

/// A program and its arguments, as they are handed to the system: no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine(pub(super) Vec<String>);

impl CommandLine {
    fn checked(words: Vec<String>) -> Option<Self> {
        let sound = words.first().is_some_and(|program| !program.is_empty())
            && words.iter().all(|word| !word.contains('\0'));
        sound.then_some(Self(words))
    }
}

impl Value for CommandLine {
    const RULE: &'static str = "must be a program and its arguments, such as \
                                [\"/usr/bin/decrypt\", \"okmsd.key\"]; no shell reads it";

    /// An array in JSON, or words with blanks between them.
    fn parse(text: &str, _base: &Path) -> Option<Self> {
        if text.trim_start().starts_with('[') {
            return Self::checked(serde_json::from_str(text).ok()?);
        }
        Self::checked(text.split_ascii_whitespace().map(str::to_owned).collect())
    }

    fn from_toml(value: &toml::Value, _base: &Path) -> Option<Self> {
        let words = value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
        Self::checked(words.collect::<Option<_>>()?)
    }

    /// Arguments may be secret in the wrong place.
    fn show(&self) -> String {
        match &self.0[..] {
            [program, _, ..] => format!("{program} …"),
            words => words.concat(),
        }
    }
}

impl Value for NonZeroU32 {
    const RULE: &'static str = "must be a whole number of at least 1";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        whole_number(text).and_then(Self::new)
    }

    fn from_toml(value: &toml::Value, _base: &Path) -> Option<Self> {
        Self::new(u32::try_from(value.as_integer()?).ok()?)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number in digits alone: the library also reads a leading plus sign, which TOML readers elsewhere do not
/// expect.
pub(super) fn whole_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Value for Duration {
    const RULE: &'static str =
        "must be a whole number above zero with a unit: ms, s, m or h, such as \"10s\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        // humantime does the arithmetic, but it also reads months, blanks and fractions.
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let known = digits > 0 && ["ms", "s", "m", "h"].contains(&&text[digits..]);
        let duration = known.then(|| humantime::parse_duration(text).ok()).flatten()?;
        (!duration.is_zero() && duration <= LONGEST).then_some(duration)
    }

    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Value for SocketAddr {
    const RULE: &'static str = "must be ADDRESS:PORT, such as \"127.0.0.1:8443\" or \"[::]:8443\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Timers further away than this overflow in places that add them to the present time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
