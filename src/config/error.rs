//! What can be wrong with settings.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why settings are refused. The text names the setting and the rule, never a value.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// The configuration file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where reading stopped, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The configuration file holds keys that no setting has.
    UnknownKeys(PathBuf, Vec<String>),
    /// A value breaks its rule.
    Rule {
        /// Where the value stands: a key and its file, a variable or a flag.
        place: String,
        /// What it must be.
        rule: &'static str,
        /// Whether it stands on the command line.
        flag: bool,
    },
    /// Two settings that exclude each other are given in one place.
    Both(String, String),
    /// A file that must be private is not.
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds more than such a file may, or bytes that are not text.
    NotText(PathBuf),
    /// The command that gives a key does not: the setting, its program, and why.
    Command(&'static str, String, String),
    /// A root key is needed and none is named.
    NoRootKey(PathBuf),
}

impl Error {
    pub(super) fn read(path: &Path, error: io::Error) -> Self {
        Self::Read(path.to_owned(), error)
    }
}

/// All that is wrong with settings, at least one thing: a person need not come back for each.
#[derive(Debug)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// Nothing wrong, or all of these.
    pub(super) fn of(errors: Vec<Error>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(Error::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "cannot read {}", path.display()),
            Self::Syntax { path, line, message } => {
                write!(f, "{} is not valid TOML: line {line}: {message}", path.display())
            }
            Self::UnknownKeys(path, keys) => {
                let (word, keys) = (if keys.len() == 1 { "key" } else { "keys" }, keys.join(", "));
                write!(f, "{} has the unknown {word} {keys}", path.display())
            }
            Self::Rule { place, rule, .. } => write!(f, "{place} {rule}"),
            Self::Both(one, other) => write!(f, "{one} and {other} exclude each other"),
            Self::NotPrivate { path, mode } => write!(
                f,
                "{path} must not be readable by others or writable by anyone but its owner, but \
                 its mode is {mode:04o}; mend it with: chmod 600 {path}",
                path = path.display(),
            ),
            Self::NotText(path) => {
                write!(f, "{} must hold one short line of text", path.display())
            }
            Self::Command(setting, program, why) => {
                write!(f, "the command of {setting}, {program}, {why}")
            }
            Self::NoRootKey(path) => write!(
                f,
                "there is no root key: OKMSD_ROOT_KEY is not set, there is no systemd credential \
                 okmsd-root-key, and {} does not exist",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            _ => None,
        }
    }
}
