//! Names, modes and locks of folders and files.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::geteuid,
};

use super::Error;

/// Makes a folder and those above it, for its owner alone, and checks one that is there.
pub(super) fn ensure_private(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io(path))?;
    check_private(path)?;
    refuse_root(path)
}

/// Refuses to work as root in the folder of another user. What is made there would be root's, and that user, the one of
/// the server, could not go on with the log; to give it away instead would be to trust that user with what root does.
fn refuse_root(path: &Path) -> Result<(), Error> {
    match other_owner(path) {
        Some((_, owner)) if geteuid().is_root() => Err(Error::OfUser(path.to_owned(), owner)),
        _ => Ok(()),
    }
}

/// Whose a path is, where it is not this process's: the part of it that can be looked at, and the id of its user.
pub(super) fn other_owner(path: &Path) -> Option<(&Path, u32)> {
    let own = geteuid().as_raw();
    let mut parts = path.ancestors();
    let found = parts.find_map(|part| fs::metadata(part).ok().map(|found| (part, found.uid())));
    found.filter(|(_, owner)| *owner != own)
}

/// Looks whether chains can be written in the folder of an audit log, which need not be there yet, without
/// changing anything.
///
/// # Errors
///
/// Where it is open to others, or this process may not write there.
pub fn check_folder(folder: &Path) -> Result<(), Error> {
    let writable = |path: &Path| {
        access(path, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| Error::io(path)(error.into()))
    };
    for above in folder.ancestors() {
        // A relative path ends with an empty one.
        let path = if above == Path::new("") { Path::new(".") } else { above };
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(path)(error)),
            Ok(found) if !found.is_dir() => {
                return Err(Error::io(path)(ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {
                if path == folder {
                    check_private(path)?;
                    refuse_root(path)?;
                }
                return writable(path);
            }
        }
    }
    Ok(())
}

/// Checks that nobody else can write to a file or folder, and others cannot read it.
pub(super) fn check_private(path: &Path) -> Result<(), Error> {
    check_mode(path, FORBIDDEN_BITS)
}

/// Checks that a file is for its owner alone.
pub(super) fn check_secret(path: &Path) -> Result<(), Error> {
    check_mode(path, 0o077)
}

fn check_mode(path: &Path, forbidden: u32) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(Error::io(path))?.permissions().mode();
    if mode & forbidden != 0 {
        return Err(Error::NotPrivate(path.to_owned(), mode & 0o7777));
    }
    Ok(())
}

/// Makes a private file, which must not be there yet.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file to read and write.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// A lock on a folder, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock; nothing where another process has it.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
        }
    }

    /// Whether it still keeps others out of a folder: whoever removes the folder removes the lock.
    pub(super) fn is_of(&self, folder: &Path) -> io::Result<bool> {
        is_at(&folder.join(LOCK), &self.0)
    }
}

/// Whether that path leads to that file, and not to another one or nowhere.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        named => named.map(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())),
    }
}

/// Whether a process holds the lock on a folder, or may hold it for all that can be seen from here. A look
/// holds it for an instant itself; a server that starts just then writes the next chain.
pub(super) fn is_locked(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// Puts a private file in the place of another, and overwrites what that one held, as well as the file
/// system lets us.
pub(super) fn replace_and_wipe(path: &Path, content: &[u8]) -> io::Result<()> {
    let old = match open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut name = OsString::from(".new.");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = create(&new)?;
    file.write_all_at(content, 0)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_above(path)?;
    if let Some(old) = old {
        let length = usize::try_from(old.metadata()?.len()).unwrap_or_default();
        old.write_all_at(&vec![0; length.min(MAX_WIPED)], 0)?;
        old.sync_data()?;
    }
    Ok(())
}

/// Makes the name of a file durable.
pub(super) fn sync_above(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a small file of text.
pub(super) fn read_text(path: &Path, max_bytes: usize) -> io::Result<String> {
    let mut text = String::with_capacity(max_bytes + 1);
    File::open(path)?.take(max_bytes as u64 + 1).read_to_string(&mut text)?;
    if text.len() > max_bytes {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(text)
}

/// The name of the file of that number.
pub(super) fn file_name(number: u32) -> String {
    format!("{number:06}.jsonl")
}

/// The name of the chain of that number.
pub(super) fn chain_name(number: u32) -> String {
    format!("{number:06}")
}

/// The files of a chain, by number.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    numbered(folder, |name| {
        let number = name.strip_suffix(".jsonl")?.parse().ok()?;
        (file_name(number) == name).then_some(number)
    })
}

/// The chains of a writer, by number.
pub(super) fn chains(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    numbered(folder, chain_number)
}

/// The number of the chain of that name.
pub(super) fn chain_number(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (chain_name(number) == name).then_some(number)
}

fn numbered(
    folder: &Path,
    number: impl Fn(&str) -> Option<u32>,
) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        found.extend(entry.file_name().to_str().and_then(&number).map(|at| (at, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

const LOCK: &str = "lock";

/// Group write, and everything for others. A group may read: that is how records are collected.
const FORBIDDEN_BITS: u32 = 0o027;

/// Bytes that are overwritten of an old file: more than the largest that is replaced.
const MAX_WIPED: usize = 64 * 1024;
