//! Where the root key comes from.

use std::{
    ffi::OsString,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    Error, command, private::read_private_line, source::Environment, source::Source,
    value::CommandLine,
};

/// Where the root key comes from: never from the database, and never from the configuration file
/// itself, which people copy about.
#[derive(Clone)]
pub struct RootKeySource {
    /// A file that holds it; the default is used only where no other source is named.
    file: Option<PathBuf>,
    default_file: PathBuf,
    /// A command that prints it.
    command: Option<CommandLine>,
    /// From `OKMSD_ROOT_KEY`.
    text: Option<Zeroizing<String>>,
    /// systemd's folder of credentials.
    credentials: Option<PathBuf>,
}

/// The place that a root key is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKeyPlace<'a> {
    /// The environment variable `OKMSD_ROOT_KEY`.
    Variable,
    /// What a command prints.
    Command,
    /// A file.
    File(&'a Path),
    /// A credential that systemd hands over.
    Credential,
}

impl RootKeySource {
    pub(super) fn defaults(base: &Path) -> Self {
        Self {
            file: None,
            default_file: base.join("root.key"),
            command: None,
            text: None,
            credentials: None,
        }
    }

    /// Where the key is if nothing names another place.
    pub fn default_file(&self) -> &Path {
        &self.default_file
    }

    /// Where the key is read from.
    pub fn place(&self) -> RootKeyPlace<'_> {
        if self.text.is_some() {
            return RootKeyPlace::Variable;
        }
        if self.command.is_some() {
            return RootKeyPlace::Command;
        }
        match &self.file {
            Some(file) => RootKeyPlace::File(file),
            None if self.credential().is_some() => RootKeyPlace::Credential,
            None => RootKeyPlace::File(&self.default_file),
        }
    }

    /// Reads the text of the root key; and that of the key which a rotation has put beside its file, if
    /// there is one. Only the store can tell which of the two counts.
    ///
    /// # Errors
    ///
    /// [`Error::NoRootKey`] where no source has one, [`Error::Command`], and as
    /// [`super::read_private_file`].
    pub fn read(&self) -> Result<Vec<Zeroizing<String>>, Error> {
        if let Some(text) = &self.text {
            return Ok(vec![text.clone()]);
        }
        if let Some(command) = &self.command {
            return Ok(vec![command::read_line("root_key.command", command)?]);
        }
        if let Some(credential) = self.credential().filter(|_| self.file.is_none()) {
            return Ok(vec![read_private_line(&credential)?]);
        }
        let file = self.file.as_ref().unwrap_or(&self.default_file);
        if self.file.is_none() && !file.exists() {
            return Err(Error::NoRootKey(file.clone()));
        }
        // The new one first: in between, it may take the place of the old one.
        let new = Self::new_file(file);
        let new_key = match read_private_line(&new) {
            Ok(key) => Some(key),
            Err(Error::Read(_, error)) if error.kind() == ErrorKind::NotFound => None,
            // What lies there without need must not keep a store shut that FILE opens.
            Err(error) => {
                tracing::warn!(%error, "what lies beside the root key is passed over");
                None
            }
        };
        let key = read_private_line(file)?;
        Ok([key].into_iter().chain(new_key).collect())
    }

    /// Where a rotation puts the new key until it has taken the place of the old one.
    pub fn new_file(file: &Path) -> PathBuf {
        let mut name = OsString::from(file);
        name.push(".new");
        PathBuf::from(name)
    }

    fn credential(&self) -> Option<PathBuf> {
        let credential = self.credentials.as_ref()?.join(CREDENTIAL);
        credential.exists().then_some(credential)
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let in_file = source.setting("root_key.file", "OKMSD_ROOT_KEY_FILE", &mut self.file)?;
        let by_command =
            source.setting("root_key.command", "OKMSD_ROOT_KEY_COMMAND", &mut self.command)?;
        match (in_file, by_command) {
            (Some(one), Some(other)) => return Err(Error::Both(one, other)),
            // What a nearer source says counts instead of what a farther one said.
            (Some(_), None) => self.command = None,
            (None, Some(_)) => self.file = None,
            (None, None) => {}
        }
        Ok(())
    }

    /// Takes what only the environment can hold.
    pub(super) fn take_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        let others = ["OKMSD_ROOT_KEY_FILE", "OKMSD_ROOT_KEY_COMMAND"];
        let text = environment.key_text(ROOT_KEY_VARIABLE, &others)?;
        self.text = text.or(self.text.take());
        self.credentials = environment.credentials();
        Ok(())
    }
}

/// Says where the key comes from, never the key.
impl fmt::Debug for RootKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKeySource(…)")
    }
}

/// What holds the key itself in the environment.
pub(super) const ROOT_KEY_VARIABLE: &str = "OKMSD_ROOT_KEY";

/// The name that the unit file gives the credential.
const CREDENTIAL: &str = "okmsd-root-key";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::{Config, Flags};

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(base: &Path, file: Option<&str>, pairs: &[(&str, &str)]) -> Result<String, Error> {
        let mut source = RootKeySource::defaults(base);
        source.file = file.map(|name| base.join(name));
        source.take_environment(&Environment::from(pairs))?;
        source
            .read()
            .map(|texts| texts.iter().map(|text| text.as_str()).collect::<Vec<_>>().join("+"))
    }

    #[test]
    fn the_nearest_source_wins() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        let credentials = base.to_str().unwrap();
        assert!(matches!(read(base, None, &[]), Err(Error::NoRootKey(_))));
        write(&base.join("root.key"), "default\n");
        assert_eq!(read(base, None, &[]).unwrap(), "default");
        write(&base.join(CREDENTIAL), "credential\n");
        let systemd = ("CREDENTIALS_DIRECTORY", credentials);
        assert_eq!(read(base, None, &[systemd]).unwrap(), "credential");
        write(&base.join("named"), "named");
        assert_eq!(read(base, Some("named"), &[systemd]).unwrap(), "named");
        let text = ("OKMSD_ROOT_KEY", " text\n");
        assert_eq!(read(base, Some("named"), &[systemd, text]).unwrap(), "text");
        assert!(matches!(read(base, Some("absent"), &[systemd]), Err(Error::Read(..))));
        for other in ["OKMSD_ROOT_KEY_FILE", "OKMSD_ROOT_KEY_COMMAND"] {
            let both = [("OKMSD_ROOT_KEY", "a"), (other, "b")];
            assert!(matches!(read(base, None, &both), Err(Error::Both(..))));
        }
        // A rotation that was cut off: the store knows which of the two counts.
        write(&base.join("named.new"), "new");
        assert_eq!(read(base, Some("named"), &[systemd]).unwrap(), "named+new");
        // What is no key there is passed over.
        write(&base.join("named.new"), "two\nlines");
        assert_eq!(read(base, Some("named"), &[systemd]).unwrap(), "named");
        write(&base.join("named.new"), "new");
        fs::set_permissions(base.join("named.new"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(base, Some("named"), &[systemd]).unwrap(), "named");
    }

    /// Whoever reads while a rotation puts the new key in the place of the old one has the new one.
    #[test]
    fn a_rotation_in_between_takes_no_key_away() {
        let folder = tempfile::tempdir().unwrap();
        let [file, old, new] =
            ["root.key", "root.key.old", "root.key.new"].map(|name| folder.path().join(name));
        write(&file, "0");
        std::thread::scope(|scope| {
            let rotating = scope.spawn(|| {
                for round in 1..=2_000 {
                    let aside = folder.path().join("aside");
                    write(&aside, &round.to_string());
                    fs::rename(&aside, &new).unwrap();
                    fs::hard_link(&file, &old).unwrap();
                    fs::rename(&new, &file).unwrap();
                    fs::remove_file(&old).unwrap();
                }
            });
            let mut last = 0;
            while !rotating.is_finished() {
                let keys = read(folder.path(), Some("root.key"), &[]).unwrap();
                let newest: u32 = keys.split('+').map(|key| key.parse().unwrap()).max().unwrap();
                assert!(newest >= last, "{newest} after {last}");
                last = newest;
            }
        });
    }

    #[test]
    fn a_command_is_a_source_like_the_others() {
        let from = |text: &str, pairs: &[(&str, &str)]| {
            let (mut config, mut errors) = Config::from_toml(text, Path::new("/etc/okmsd.toml"))?;
            errors.extend(config.take(&Environment::from(pairs), &Flags::default()));
            errors.pop().map_or(Ok(config.root_key), Err)
        };
        let command = "[root_key]\ncommand = [\"echo\", \"hunter2 3\"]";
        let source = from(command, &[]).unwrap();
        assert_eq!(source.place(), RootKeyPlace::Command);
        assert_eq!(*source.read().unwrap()[0], "hunter2 3");
        for value in ["echo hunter2", "[\"echo\", \"hunter2\"]"] {
            let source = from(command, &[("OKMSD_ROOT_KEY_COMMAND", value)]).unwrap();
            assert_eq!(*source.read().unwrap()[0], "hunter2");
        }
        let source = from(command, &[("OKMSD_ROOT_KEY_FILE", "near")]).unwrap();
        assert_eq!(source.place(), RootKeyPlace::File(Path::new("near")));
        let file = "[root_key]\nfile = \"far\"";
        let source = from(file, &[("OKMSD_ROOT_KEY_COMMAND", "echo hunter2")]).unwrap();
        assert_eq!(source.place(), RootKeyPlace::Command);
        let both = format!("{command}\nfile = \"x\"");
        assert!(matches!(from(&both, &[]), Err(Error::Both(..))));
        for bad in ["\"hunter2\"", "[]", "[\"\"]", "[1]", "[\"hunter2\\u0000\"]"] {
            let refused = from(&format!("[root_key]\ncommand = {bad}"), &[]).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.starts_with("root_key.command") && !refused.contains("unter2"));
        }
        for bad in ["[", "[1]", "   "] {
            assert!(from("", &[("OKMSD_ROOT_KEY_COMMAND", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("root.key"), "default\n");
        fs::set_permissions(folder.path().join("root.key"), fs::Permissions::from_mode(0o644))
            .unwrap();
        assert!(matches!(read(folder.path(), None, &[]), Err(Error::NotPrivate { .. })));
    }
}
