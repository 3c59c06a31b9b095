//! Files that nobody else may read, and the check of that.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use zeroize::Zeroizing;

use super::Error;

/// Opens a private file.
///
/// The mode is asked of the open file, so that it is the one that is read. A group may read, since
/// container platforms hand secrets to a service by its group.
///
/// # Errors
///
/// [`Error::NotPrivate`] where others may read or write the file or a group may write it, [`Error::Read`].
pub fn open_private_file(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(|error| Error::read(path, error))?;
    let mode = file.metadata().map_err(|error| Error::read(path, error))?.permissions().mode();
    if mode & FORBIDDEN_BITS != 0 {
        return Err(Error::NotPrivate { path: path.to_owned(), mode: mode & 0o7777 });
    }
    Ok(file)
}

/// Reads a private file of text.
///
/// # Errors
///
/// As [`open_private_file`]; also [`Error::NotText`].
pub fn read_private_file(path: &Path) -> Result<Zeroizing<String>, Error> {
    let file = open_private_file(path)?;
    // Allocated once: a growing buffer would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let mut limited = file.take(MAX_BYTES as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(|error| Error::read(path, error))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::NotText(path.to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::NotText(path.to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads a private file that holds one line, without the line's end.
///
/// # Errors
///
/// As [`read_private_file`]; also [`Error::NotText`] where there is no text or more than a line.
pub fn read_private_line(path: &Path) -> Result<Zeroizing<String>, Error> {
    let text = read_private_file(path)?;
    let line = text.trim();
    if line.is_empty() || line.contains('\n') {
        return Err(Error::NotText(path.to_owned()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Group write, and read and write for others.
const FORBIDDEN_BITS: u32 = 0o026;

/// 64 KiB: keys, passwords and URLs are far below that; `/dev/zero` is not.
const MAX_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn only_private_modes_are_read() {
        for mode in [0o600, 0o400, 0o640, 0o440] {
            let (_folder, path) = file(b"x", mode);
            assert!(read_private_file(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o620, 0o660, 0o666, 0o777] {
            let (_folder, path) = file(b"x", mode);
            let text = read_private_file(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.ends_with(&format!("chmod 600 {}", path.display())), "{text}");
        }
    }

    #[test]
    fn a_line_is_text_without_its_end() {
        let (_folder, path) = file(b"hunter2\n", 0o600);
        assert_eq!(*read_private_line(&path).unwrap(), "hunter2");
        for content in [&b""[..], b"\n", b"a\nb", b"\xff", &[b'x'; MAX_BYTES + 1]] {
            let (_folder, path) = file(content, 0o600);
            let error = read_private_line(&path).unwrap_err();
            assert!(matches!(error, Error::NotText(_)), "{error:?}");
        }
    }
}
