//! Where the backup key or passphrase comes from.

use std::{
    fmt,
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    Error, command,
    private::{read_private_file, read_private_line},
    source::{Environment, Source},
    value::CommandLine,
};

/// Where the backup key or passphrase comes from: as the root key, never from the configuration file itself. It is
/// needed to make backups and to restore them, not to serve.
#[derive(Clone, Default)]
pub struct Backup {
    key_file: Option<PathBuf>,
    key_command: Option<CommandLine>,
    passphrase_file: Option<PathBuf>,
    /// From `OKMSD_BACKUP_KEY`.
    text: Option<Zeroizing<String>>,
    /// systemd's folder of credentials.
    credentials: Option<PathBuf>,
}

/// What a backup is sealed with, as text.
#[derive(Clone, PartialEq, Eq)]
pub enum BackupSecretText {
    /// The text of a key.
    Key(Zeroizing<String>),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl Backup {
    /// Whether the file that is named is one that this process may not read. A server does not need it: its backups may
    /// be another user's.
    pub fn is_of_another_user(&self) -> bool {
        let is_refused = |file: &PathBuf| {
            File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        [&self.key_file, &self.passphrase_file].into_iter().flatten().any(is_refused)
    }

    /// Reads it; nothing where no place is named.
    ///
    /// # Errors
    ///
    /// [`Error::Command`], and as [`super::read_private_file`].
    pub fn read(&self) -> Result<Option<BackupSecretText>, Error> {
        if let Some(text) = &self.text {
            return Ok(Some(BackupSecretText::Key(text.clone())));
        }
        if let Some(command) = &self.key_command {
            let line = command::read_line("backup.key_command", command)?;
            return Ok(Some(BackupSecretText::Key(line)));
        }
        if let Some(file) = &self.passphrase_file {
            return Ok(Some(BackupSecretText::Passphrase(read_passphrase(file)?)));
        }
        let credential = || Some(self.credentials.as_ref()?.join(CREDENTIAL));
        let credential = || credential().filter(|path| path.exists());
        match self.key_file.clone().or_else(credential) {
            Some(file) => Ok(Some(BackupSecretText::Key(read_private_line(&file)?))),
            None => Ok(None),
        }
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let key = source.setting("backup.key_file", "OKMSD_BACKUP_KEY_FILE", &mut self.key_file)?;
        let by_command = source.setting(
            "backup.key_command",
            "OKMSD_BACKUP_KEY_COMMAND",
            &mut self.key_command,
        )?;
        let passphrase = source.setting(
            "backup.passphrase_file",
            "OKMSD_BACKUP_PASSPHRASE_FILE",
            &mut self.passphrase_file,
        )?;
        // What a nearer source says counts instead of what a farther one said.
        let near = [&key, &by_command, &passphrase].map(Option::is_some);
        if near.contains(&true) {
            self.text = None;
            self.key_file.take_if(|_| !near[0]);
            self.key_command.take_if(|_| !near[1]);
            self.passphrase_file.take_if(|_| !near[2]);
        }
        let mut places = [key, by_command, passphrase].into_iter().flatten();
        match (places.next(), places.next()) {
            (Some(one), Some(other)) => Err(Error::Both(one, other)),
            _ => Ok(()),
        }
    }

    /// Takes what only the environment can hold.
    pub(super) fn take_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        let text = environment.key_text(BACKUP_KEY_VARIABLE, &VARIABLES)?;
        self.text = text.or(self.text.take());
        self.credentials = environment.credentials();
        Ok(())
    }
}

/// Reads a passphrase as it would be typed: all but the end of its line counts, blanks too.
fn read_passphrase(path: &Path) -> Result<Zeroizing<String>, Error> {
    let text = read_private_file(path)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\n') {
        return Err(Error::NotText(path.to_owned()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Says where it comes from, never what it is.
impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backup(…)")
    }
}

/// What holds the key itself in the environment.
pub(super) const BACKUP_KEY_VARIABLE: &str = "OKMSD_BACKUP_KEY";

const VARIABLES: [&str; 3] =
    ["OKMSD_BACKUP_KEY_FILE", "OKMSD_BACKUP_KEY_COMMAND", "OKMSD_BACKUP_PASSPHRASE_FILE"];

/// The name that a unit file gives the credential.
const CREDENTIAL: &str = "okmsd-backup-key";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::{Config, Flags};

    fn text(
        base: &Path,
        file: &str,
        pairs: &[(&str, &str)],
        flags: &Flags,
    ) -> Result<Option<String>, Error> {
        let (mut config, mut errors) = Config::from_toml(file, &base.join("okmsd.toml"))?;
        errors.extend(config.take(&Environment::from(pairs), flags));
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        Ok(config.backup.read()?.map(|text| match text {
            BackupSecretText::Key(text) => format!("key {}", *text),
            BackupSecretText::Passphrase(text) => format!("passphrase {}", *text),
        }))
    }

    #[test]
    fn the_nearest_source_counts_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["far", "near", "nearest", CREDENTIAL] {
            let path = folder.path().join(name);
            fs::write(&path, format!("{name}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let base = folder.path();
        let path = |name: &str| base.join(name).display().to_string();
        let (near, credentials) = (path("near"), base.display().to_string());
        let none = Flags::default();
        let read = |file: &str, pairs: &[(&str, &str)]| text(base, file, pairs, &none);
        let far = "[backup]\npassphrase_file = \"far\"";
        let is = |found: Result<Option<String>, Error>, expected: &str| {
            assert_eq!(found.unwrap().as_deref(), Some(expected));
        };
        assert_eq!(read("", &[]).unwrap(), None);
        let systemd = ("CREDENTIALS_DIRECTORY", credentials.as_str());
        is(read("", &[systemd]), "key okmsd-backup-key");
        is(read(far, &[systemd]), "passphrase far");
        is(read(far, &[("OKMSD_BACKUP_KEY_FILE", &near)]), "key near");
        is(read(far, &[("OKMSD_BACKUP_KEY_COMMAND", "echo hunter2")]), "key hunter2");
        is(read(far, &[("OKMSD_BACKUP_KEY", " hunter2\n")]), "key hunter2");
        let nearest = path("nearest");
        let flags = none.clone().with("backup.key_file", "--backup-key-file", Some(&nearest));
        let pairs = [("OKMSD_BACKUP_KEY", "hunter2")];
        is(text(base, far, &pairs, &flags), "key nearest");
        for other in VARIABLES {
            let both = read("", &[("OKMSD_BACKUP_KEY", "hunter2"), (other, "x")]);
            assert!(matches!(both, Err(Error::Both(..))), "{other}");
        }
        let both = read("[backup]\nkey_file = \"far\"\npassphrase_file = \"far\"", &[]);
        assert!(matches!(both, Err(Error::Both(..))));
        // Blanks count, as those that are typed; the end of the line does not.
        for (content, passphrase) in [
            (" two words \n", Some(" two words ")),
            ("x\t\r\n", Some("x\t")),
            ("x", Some("x")),
            ("x\n\n", None),
            ("\n", None),
            ("", None),
        ] {
            fs::write(base.join("far"), content).unwrap();
            let expected = passphrase.map(|text| format!("passphrase {text}"));
            assert_eq!(read(far, &[]).ok().flatten(), expected, "{content:?}");
        }
        let failed = read("[backup]\nkey_command = [\"false\", \"hunter2\"]", &[]);
        let failed = failed.unwrap_err().to_string();
        assert!(failed.starts_with("the command of backup.key_command, false, failed"), "{failed}");
        assert!(!failed.contains("hunter2"));
    }
}
