//! The database.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Error, private::read_private_line, source::Source, value::Value};

/// The database.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Where it is.
    pub database: Database,
}

impl Storage {
    pub(super) fn defaults(base: &Path) -> Self {
        Self { database: Database::Sqlite(base.join("okmsd.db")) }
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let mut file: Option<PathBuf> = None;
        let direct = source.setting("storage.database", "OKMSD_DATABASE", &mut self.database)?;
        let in_file = source.setting("storage.database_file", "OKMSD_DATABASE_FILE", &mut file)?;
        if let (Some(direct), Some(in_file)) = (&direct, &in_file) {
            return Err(Error::Both(direct.clone(), in_file.clone()));
        }
        if let (Some(path), Some(place)) = (file, in_file) {
            let text = read_private_line(&path)?;
            let base = path.parent().unwrap_or(Path::new(""));
            self.database = Database::parse(&text, base).ok_or_else(|| Error::Rule {
                place: format!("what stands in the file of {place}"),
                rule: Database::RULE,
                flag: false,
            })?;
        }
        Ok(())
    }
}

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A URL of PostgreSQL; it may hold a password.
    Postgres(Zeroizing<String>),
}

impl Database {
    /// The URL, password and all, for those who connect or write a configuration.
    pub fn to_url(&self) -> Zeroizing<String> {
        match self {
            Self::Sqlite(path) => Zeroizing::new(format!("sqlite://{}", path.display())),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// Reads a setting's text; a relative path starts at the working directory.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::parse(text, Path::new(""))
    }
}

impl Value for Database {
    const RULE: &'static str =
        "must be the path of an SQLite file, sqlite:///PATH, or postgres://USER@HOST/DATABASE";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Some(Self::Postgres(Zeroizing::new(text.to_owned())));
        }
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        // Another scheme is a misspelt one, and a query belongs to URLs of other programs.
        let plain = !path.is_empty() && !path.contains("://") && !path.contains(['?', '#', '\0']);
        let is_file = plain && path != ":memory:" && !is_meant_for_a_server(path);
        is_file.then(|| Self::Sqlite(base.join(path)))
    }

    fn show(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(url) => without_password(url),
        }
    }
}

/// The URL without its password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

/// Whether a text that is no URL of ours was meant to lead to a server: a file of that name would be a new, empty
/// database, and the name is told in messages, with the password in it.
fn is_meant_for_a_server(text: &str) -> bool {
    // No such text begins like this.
    if text.starts_with("./") || (text.starts_with('/') && !text.starts_with("//")) {
        return false;
    }
    let names_postgres =
        text.get(..POSTGRES.len()).is_some_and(|start| start.eq_ignore_ascii_case(POSTGRES));
    let has_credentials =
        text.split_once(':').is_some_and(|(_, after_colon)| after_colon.contains('@'));
    let mut parts = text.as_bytes().windows(PASSWORD.len());
    let has_password = parts.any(|part| part.eq_ignore_ascii_case(PASSWORD.as_bytes()));
    (names_postgres && (text.contains([':', '@', '=']) || text.contains("//")))
        || has_credentials
        || has_password
        || has_parameters(text)
}

/// Whether a text is of the form `host=NAME dbname=NAME`, blanks around the signs or not, as libpq takes it.
fn has_parameters(text: &str) -> bool {
    let is_key = |word: &str| PARAMETERS.iter().any(|key| word.eq_ignore_ascii_case(key));
    let ends_word = |letter: char| letter.is_whitespace() || letter == ';' || letter == '=';
    text.match_indices('=').any(|(sign, _)| {
        let mut words = text[..sign].rsplit(ends_word);
        words.find(|word| !word.is_empty()).is_some_and(is_key)
    })
}

/// Keeps user, host and database name. The query may hold a password too, so it goes as a whole.
fn without_password(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    // An unescaped @ or / in a password must not end it early.
    let Some((credentials, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{host}")
}

/// How texts begin that mean PostgreSQL.
const POSTGRES: &str = "postgres";

/// What a password stands behind, in most forms that are no URL.
const PASSWORD: &str = "password=";

/// What the other form of libpq says where a server is by, and who connects.
const PARAMETERS: [&str; 8] =
    ["host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Database> {
        Database::parse(text, Path::new("/base"))
    }

    #[test]
    fn sqlite_is_a_path_or_a_url() {
        for (text, path) in [
            ("okmsd.db", "/base/okmsd.db"),
            ("/data/okmsd.db", "/data/okmsd.db"),
            ("sqlite:///data/okmsd.db", "/data/okmsd.db"),
            ("sqlite:okmsd.db", "/base/okmsd.db"),
            ("sqlite://okmsd.db", "/base/okmsd.db"),
        ] {
            assert_eq!(parsed(text), Some(Database::Sqlite(path.into())), "{text}");
        }
        for text in ["", "sqlite:", "mysql://host/db", "sqlite::memory:", "a.db?mode=ro", "x\0"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    /// Each of them would be the name of a file.
    #[test]
    fn what_was_meant_for_a_server_is_refused() {
        for text in [
            "host=db.example user=okmsd password=hunter2 dbname=okmsd",
            "host=db.example dbname=okmsd",
            "  user = okmsd  host = db.example",
            "HOST=db.example",
            "Server=db;Database=okmsd;Password=hunter2",
            "Host=db;Database=okmsd",
            "dbname=okmsd",
            "okmsd.db password=hunter2",
            "postgres:okmsd:hunter2@db",
            "postgres:/okmsd:hunter2@db/okmsd",
            "postgres//okmsd:hunter2@db/okmsd",
            "postgres=okmsd",
            "postgresql:okmsd",
            "postgresql//db/okmsd",
            "PostgreSQL:db",
            "Postgres://okmsd:hunter2@db/okmsd",
            "postgres:",
            "postgres@db",
            "postgre://okmsd:hunter2@db/okmsd",
            "jdbc:postgresql://db/okmsd",
            "okmsd:hunter2@db/okmsd",
            "//okmsd:hunter2@db/okmsd",
            "sqlite://okmsd:hunter2@db",
            "sqlite:okmsd:hunter2@db",
            "sqlite:postgres:db",
            "https://db/okmsd",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
        for text in [
            "postgres",
            "postgres.db",
            "postgresql/okmsd.db",
            "Postgres of okmsd",
            "post:gres.db",
            "a@b:c.db",
            "ghost=1.db",
            "/srv/host=db/okmsd.db",
            "/srv/prod:1/okms@eu.db",
            "./a:b@c.db",
            "/srv/at=home, or so.db",
            "ünïcödé.db",
        ] {
            let path = Path::new("/base").join(text);
            assert_eq!(parsed(text), Some(Database::Sqlite(path)), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://me:hunter2@db/okmsd",
            "postgresql://me:hunter2@db/okmsd?sslmode=require",
            "postgres://me@db/okmsd?password=hunter2",
            "postgres://me:hun@ter2:hunter2@db/okmsd",
            "postgres://me:hunter2/hunter2@db/okmsd",
        ] {
            let database = parsed(text).unwrap();
            let shown = format!("{database} {database:?}");
            assert!(!shown.contains("ter2") && shown.contains("me@db/okmsd"), "{shown}");
        }
    }
}
