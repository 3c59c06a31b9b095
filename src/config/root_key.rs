//! Where the root key comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Error, private::read_private_line, source::Environment, source::Source};

/// Where the root key comes from: never from the database, and never from the configuration file
/// itself, which people copy about.
#[derive(Clone)]
pub struct RootKeySource {
    /// A file that holds it; the default is used only where no other source is named.
    file: Option<PathBuf>,
    default_file: PathBuf,
    /// From `OKMSD_ROOT_KEY`.
    text: Option<Zeroizing<String>>,
    /// systemd's folder of credentials.
    credentials: Option<PathBuf>,
}

impl RootKeySource {
    pub(super) fn defaults(base: &Path) -> Self {
        Self { file: None, default_file: base.join("root.key"), text: None, credentials: None }
    }

    /// Where the key is if nothing names another place.
    pub fn default_file(&self) -> &Path {
        &self.default_file
    }

    /// Reads the text of the root key.
    ///
    /// # Errors
    ///
    /// [`Error::NoRootKey`] where no source has one, and as [`super::read_private_file`].
    pub fn read(&self) -> Result<Zeroizing<String>, Error> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        if let Some(file) = &self.file {
            return read_private_line(file);
        }
        if let Some(credential) =
            self.credentials.as_ref().map(|folder| folder.join(CREDENTIAL)).filter(|f| f.exists())
        {
            return read_private_line(&credential);
        }
        if !self.default_file.exists() {
            return Err(Error::NoRootKey(self.default_file.clone()));
        }
        read_private_line(&self.default_file)
    }

    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("root_key.file", "OKMSD_ROOT_KEY_FILE", &mut self.file)?;
        Ok(())
    }

    /// Takes what only the environment can hold.
    pub(super) fn take_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        let variable = |name| environment.variable(name);
        if let Some(text) = variable("OKMSD_ROOT_KEY") {
            if variable("OKMSD_ROOT_KEY_FILE").is_some() {
                let names = ["OKMSD_ROOT_KEY", "OKMSD_ROOT_KEY_FILE"].map(str::to_owned);
                let [one, other] = names;
                return Err(Error::Both(one, other));
            }
            self.text = Some(Zeroizing::new(text.trim().to_owned()));
        }
        self.credentials = variable("CREDENTIALS_DIRECTORY").map(|path| PathBuf::from(&**path));
        Ok(())
    }
}

/// Says where the key comes from, never the key.
impl fmt::Debug for RootKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKeySource(…)")
    }
}

/// The name that the unit file gives the credential.
const CREDENTIAL: &str = "okmsd-root-key";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(base: &Path, file: Option<&str>, pairs: &[(&str, &str)]) -> Result<String, Error> {
        let mut source = RootKeySource::defaults(base);
        source.file = file.map(|name| base.join(name));
        source.take_environment(&Environment::from(pairs))?;
        source.read().map(|text| text.to_string())
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
        let both = [("OKMSD_ROOT_KEY", "a"), ("OKMSD_ROOT_KEY_FILE", "b")];
        assert!(matches!(read(base, None, &both), Err(Error::Both(..))));
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
