//! What is logged and in which form.

use std::path::Path;

use super::{
    Error,
    source::{Environment, Source},
    value::Value,
};

/// What is logged and in which form.
#[derive(Debug, Clone)]
pub struct Log {
    /// Which lines are written.
    pub level: LogFilter,
    /// The form of a line.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("log.level", "OKMSD_LOG_LEVEL", &mut self.level)?;
        source.setting("log.format", "OKMSD_LOG_FORMAT", &mut self.format)?;
        Ok(())
    }

    /// Takes `RUST_LOG`, which people set for all programs of this kind; our own variable wins. Its
    /// grammar is the library's, so whoever builds the filter checks it.
    pub(super) fn take_environment(&mut self, environment: &Environment) {
        if let Some(directives) = environment.variable("RUST_LOG") {
            self.level = LogFilter(directives.to_string());
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogFilter("info".to_owned()), format: LogFormat::Text }
    }
}

/// Which lines are written: a level, or levels by module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for LogFilter {
    const RULE: &'static str = "must be error, warn, info, debug, trace or off, or such levels by module, such as \
         \"info,okmsd::store=debug\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        let right = |directive: &str| {
            let (module, level) = directive.split_once('=').unwrap_or(("okmsd", directive));
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
            !module.is_empty() && module.bytes().all(known) && LEVELS.contains(&level)
        };
        text.split(',').all(right).then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    const RULE: &'static str = "must be \"text\" or \"json\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
