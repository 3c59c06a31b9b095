//! The audit log.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Error, source::Source, value::Value};
use crate::audit::{
    DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_MAX_FILE_AGE, DEFAULT_MAX_FILE_SIZE, Options, Sync,
};

/// The audit log. It is always on.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The folder of all its files.
    pub folder: PathBuf,
    /// What is on the disk before an answer leaves.
    pub sync: Sync,
    /// The longest time for which a record stays unsigned, where the disk keeps up.
    pub checkpoint_interval: Duration,
    /// Bytes after which a new file is begun.
    pub max_file_size: FileSize,
    /// Age after which a new file is begun.
    pub max_file_age: FileAge,
    /// How many files of a chain are kept.
    pub keep_files: KeepFiles,
    /// Further places for the same lines.
    pub sinks: Sinks,
}

impl Audit {
    pub(super) fn defaults(base: &Path) -> Self {
        Self {
            folder: base.join("audit"),
            sync: Sync::Changes,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            max_file_size: FileSize(DEFAULT_MAX_FILE_SIZE),
            max_file_age: FileAge(Some(DEFAULT_MAX_FILE_AGE)),
            keep_files: KeepFiles(None),
            sinks: Sinks { stdout: false, syslog: false },
        }
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("audit.folder", "OKMSD_AUDIT_FOLDER", &mut self.folder)?;
        source.setting("audit.sync", "OKMSD_AUDIT_SYNC", &mut self.sync)?;
        let interval = &mut self.checkpoint_interval;
        source.setting("audit.checkpoint_interval", "OKMSD_AUDIT_CHECKPOINT_INTERVAL", interval)?;
        let size = &mut self.max_file_size;
        source.setting("audit.max_file_size", "OKMSD_AUDIT_MAX_FILE_SIZE", size)?;
        source.setting("audit.max_file_age", "OKMSD_AUDIT_MAX_FILE_AGE", &mut self.max_file_age)?;
        source.setting("audit.keep_files", "OKMSD_AUDIT_KEEP_FILES", &mut self.keep_files)?;
        source.setting("audit.sinks", "OKMSD_AUDIT_SINKS", &mut self.sinks)?;
        Ok(())
    }

    /// The settings in the words of the audit log, which holds so many records that wait.
    pub fn options(&self, queue: NonZeroU32) -> Options {
        Options {
            folder: self.folder.clone(),
            sync: self.sync,
            checkpoint_interval: self.checkpoint_interval,
            max_file_size: self.max_file_size.0,
            max_file_age: self.max_file_age.0,
            keep_files: self.keep_files.0,
            queue: queue.get() as usize,
            stdout: self.sinks.stdout,
            syslog: self.sinks.syslog,
        }
    }
}

impl Value for Sync {
    const RULE: &'static str = "must be \"each\", \"changes\" or \"interval\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        match text {
            "each" => Some(Self::Each),
            "changes" => Some(Self::Changes),
            "interval" => Some(Self::Interval),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Each => "each".to_owned(),
            Self::Changes => "changes".to_owned(),
            Self::Interval => "interval".to_owned(),
        }
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSize(u64);

impl Value for FileSize {
    const RULE: &'static str =
        "must be a whole number with a unit, KiB, MiB or GiB, from \"64KiB\" to \"64GiB\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
        (SMALLEST_FILE..=LARGEST_FILE).contains(&bytes).then_some(Self(bytes))
    }

    fn show(&self) -> String {
        let unit = UNITS.into_iter().rev().find(|(_, factor)| self.0.is_multiple_of(*factor));
        unit.map_or_else(String::new, |(name, factor)| format!("{}{name}", self.0 / factor))
    }
}

/// An age, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAge(Option<Duration>);

impl Value for FileAge {
    const RULE: &'static str =
        "must be \"off\" or a whole number with a unit, s, m or h, up to \"24h\"";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        if text == "off" {
            return Some(Self(None));
        }
        let age = Duration::parse(text, base)?;
        (age >= Duration::from_secs(1)).then_some(Self(Some(age)))
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "off".to_owned(), |age| age.show())
    }
}

/// A number of files, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepFiles(Option<NonZeroU32>);

impl Value for KeepFiles {
    const RULE: &'static str = "must be \"all\" or a whole number of at least 1";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        match text {
            "all" => Some(Self(None)),
            _ => NonZeroU32::parse(text, base).map(|number| Self(Some(number))),
        }
    }

    fn from_toml(value: &toml::Value, base: &Path) -> Option<Self> {
        match value.as_str() {
            Some(text) => Self::parse(text, base),
            None => NonZeroU32::from_toml(value, base).map(|number| Self(Some(number))),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "all".to_owned(), |number| number.to_string())
    }
}

/// Further places for the lines of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sinks {
    stdout: bool,
    syslog: bool,
}

impl Value for Sinks {
    const RULE: &'static str = "must be \"none\", \"stdout\", \"syslog\" or \"stdout,syslog\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        match text {
            "none" => Some(Self { stdout: false, syslog: false }),
            "stdout" => Some(Self { stdout: true, syslog: false }),
            "syslog" => Some(Self { stdout: false, syslog: true }),
            "stdout,syslog" | "syslog,stdout" => Some(Self { stdout: true, syslog: true }),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match (self.stdout, self.syslog) {
            (false, false) => "none".to_owned(),
            (true, false) => "stdout".to_owned(),
            (false, true) => "syslog".to_owned(),
            (true, true) => "stdout,syslog".to_owned(),
        }
    }
}

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// 64 KiB: smaller files would be more in number than in content.
const SMALLEST_FILE: u64 = 64 << 10;

/// 64 GiB: far more than a tool reads at once.
const LARGEST_FILE: u64 = 64 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken<T: Value>(text: &str) -> Option<String> {
        T::parse(text, Path::new("")).map(|value| value.show())
    }

    #[test]
    fn values_within_their_bounds_read_back_as_they_were_written() {
        for text in ["64KiB", "65KiB", "64MiB", "1GiB", "64GiB"] {
            assert_eq!(taken::<FileSize>(text).as_deref(), Some(text));
        }
        assert_eq!(taken::<FileSize>("1024KiB").as_deref(), Some("1MiB"));
        for text in ["", "64", "63KiB", "65GiB", "1TiB", "-1MiB", "1 MiB", "99999999999GiB"] {
            assert_eq!(taken::<FileSize>(text), None, "{text}");
        }
        for text in ["off", "1s", "24h"] {
            assert!(taken::<FileAge>(text).is_some(), "{text}");
        }
        for text in ["", "0s", "999ms", "25h", "never"] {
            assert_eq!(taken::<FileAge>(text), None, "{text}");
        }
        for text in ["all", "1", "30"] {
            assert_eq!(taken::<KeepFiles>(text).as_deref(), Some(text));
        }
        for text in ["", "0", "-1", "some"] {
            assert_eq!(taken::<KeepFiles>(text), None, "{text}");
        }
        for text in ["none", "stdout", "syslog", "stdout,syslog"] {
            assert_eq!(taken::<Sinks>(text).as_deref(), Some(text));
        }
        for text in ["", "file", "stdout,", "stdout syslog"] {
            assert_eq!(taken::<Sinks>(text), None, "{text}");
        }
    }
}
