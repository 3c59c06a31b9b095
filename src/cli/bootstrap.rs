//! What the folder of a server needs before there is a store: authority, server certificate, root
//! key and configuration.
//!
//! Of a key and its certificate the key is always written first, so the certificate says that both
//! are there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Failure, quote};
use crate::{
    config::{Config, Database, Error, Pki, read_private_file},
    crypto::RootKey,
    domain::Timestamp,
    pki::{Authority, Issued},
};

/// Makes the authority of a server.
pub(super) fn generate_authority(now: Timestamp) -> Result<Authority, Failure> {
    Authority::generate("okmsd access CA", now, AUTHORITY_DAYS)
        .map_err(|error| Failure::because("cannot make an authority", &error))
}

/// Loads the authority of a configuration, with its private key.
pub(super) fn load_authority(pki: &Pki) -> Result<Authority, Failure> {
    let certificate = read(&pki.ca_certificate_file)?;
    let private_key = read_private_file(&pki.ca_private_key_file)?;
    Authority::load(&certificate, &private_key).map_err(|error| {
        let what = format!(
            "cannot use the authority of {} and {}",
            pki.ca_certificate_file.display(),
            pki.ca_private_key_file.display()
        );
        Failure::because(what, &error)
    })
}

/// Makes a server certificate.
pub(super) fn issue_server_certificate(
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> Result<Issued, Failure> {
    authority
        .issue_server(names, now, SERVER_CERTIFICATE_DAYS)
        .map_err(|error| Failure::because("cannot make a server certificate", &error))
}

/// Makes a root key, as the text of its file.
pub(super) fn generate_root_key() -> Result<Vec<u8>, Failure> {
    let key = RootKey::generate()
        .map_err(|_| Failure::new("cannot make a root key: the system gives no randomness"))?;
    let mut text = key.to_text().as_bytes().to_vec();
    text.push(b'\n');
    Ok(text)
}

/// Writes the settings in which `config` differs from the defaults of `folder`, as a file in it.
pub(super) fn configuration(
    headline: &str,
    config: &Config,
    folder: &Path,
) -> Result<String, Failure> {
    let defaults = Config::defaults(folder);
    let mut text = format!("{headline}\n# Every other setting has its default; see: {EXAMPLE}\n");
    let mut section = "";
    for ((key, default), (_, value)) in defaults.list().into_iter().zip(config.list()) {
        if value == default || !WRITTEN.contains(&key) {
            continue;
        }
        let (in_section, name) = key.split_once('.').unwrap_or(("", key));
        if in_section != section {
            text.push_str(&format!("\n[{in_section}]\n"));
            section = in_section;
        }
        let value = match key {
            "storage.database" => quote::double(&database_url(&config.storage.database)?),
            _ => quote::double(&value),
        };
        text.push_str(&format!("{name} = {value}\n"));
    }
    Ok(text)
}

/// A path that means the same from every working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::because(format!("cannot find {}", path.display()), &error))
}

/// Reads a file that need not be private.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    Ok(fs::read_to_string(path).map_err(|error| Error::Read(path.to_owned(), error))?)
}

fn database_url(database: &Database) -> Result<String, Failure> {
    match database {
        Database::Sqlite(path) => Ok(quote::path(&absolute(path)?)?.to_owned()),
        Database::Postgres(url) => Ok(url.to_string()),
    }
}

/// The settings that a written configuration holds; the files of a folder have their default names.
const WRITTEN: [&str; 6] = [
    "server.api_listen",
    "server.docs_listen",
    "server.operations_listen",
    "server.api_url",
    "server.region",
    "storage.database",
];

const EXAMPLE: &str = "okmsd config example";

/// Ten years: changing an authority means changing every client.
const AUTHORITY_DAYS: u32 = 3650;

/// A year; browsers accept up to 398 days.
const SERVER_CERTIFICATE_DAYS: u32 = 365;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags};

    #[test]
    fn a_written_configuration_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for database in ["postgres://me:hun'ter\"2@db/okmsd?x=y", "/data/a \\ \"b\".db"] {
            let mut config = Config::defaults(folder.path());
            let flags = Flags::default()
                .with("server.api_listen", "", Some("0.0.0.0:1"))
                .with("server.docs_listen", "", Some("off"))
                .with("storage.database", "", Some(database));
            config.apply(&Environment::OfPairs(Vec::new()), &flags).unwrap();
            let text = configuration("# x", &config, folder.path()).unwrap();
            let path = folder.path().join("okmsd.toml");
            fs::write(&path, &text).unwrap();
            let (environment, flags) = (Environment::OfPairs(Vec::new()), Flags::default());
            let read = Config::load(Some(&path), &environment, &flags).unwrap();
            assert_eq!(read.list(), config.list(), "{text}");
            assert_eq!(read.storage.database, config.storage.database);
        }
    }
}
