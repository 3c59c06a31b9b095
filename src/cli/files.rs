//! Private files and folders: modes, whole or not at all.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};
use uuid::Uuid;

use super::{Failure, undo::OnSignal};

/// Makes a folder and those above it, for its owner alone. One that is there keeps its mode.
pub(super) fn create_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::because(format!("cannot make the folder {}", path.display()), &error)
    })
}

/// Makes a private file, which must not be there yet.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let made = write_new(path, content).and_then(|()| sync_folder(path));
    made.map_err(|error| Failure::because(format!("cannot make {}", path.display()), &error))
}

/// Makes a private file, which must not be there yet, in such a way that after a crash it is there as a
/// whole or not at all.
pub(super) fn create_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let temporary = temporary(path);
    let remove = || match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let made = remove()
        .and_then(|()| write_new(&temporary, content))
        // Unlike a rename, this never takes the place of something.
        .and_then(|()| fs::hard_link(&temporary, path))
        .and_then(|()| remove())
        .and_then(|()| sync_folder(path));
    made.map_err(|error| Failure::because(format!("cannot make {}", path.display()), &error))
}

/// Opens a file of our own to read it and to append to it; one that is not there is made, for its owner alone.
///
/// In a folder that others may write to, the name may have been prepared by them. So what is no plain file, is
/// another user's or has a second name is refused, and no link is followed.
pub(super) fn open_own(path: &Path) -> Result<File, Failure> {
    // A pipe would be waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600);
    options.custom_flags(flags.bits().cast_signed());
    let opened = options.open(path).and_then(|file| file.metadata().map(|found| (file, found)));
    let (file, found) = opened
        .map_err(|error| Failure::because(format!("cannot use {}", path.display()), &error))?;
    let why = if !found.is_file() {
        "it is no plain file"
    } else if found.uid() != geteuid().as_raw() {
        "it belongs to another user"
    } else if found.nlink() != 1 {
        "it has another name too"
    } else {
        // A name that a power cut takes away would take what is written with it.
        let synced = sync_folder(path).map(|()| file);
        return synced
            .map_err(|error| Failure::because(format!("cannot use {}", path.display()), &error));
    };
    Err(Failure::new(format!("cannot use {}: {why}", path.display())))
}

/// Puts a private file in the place of what may be there: the old one or the new one is seen, and
/// after a crash too, never half of one.
///
/// Whoever calls holds the [`FolderLock`]: two at once would share one temporary name.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let temporary = temporary(path);
    let remove_left_over = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    remove_left_over
        .and_then(|()| write_new(&temporary, content))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(path))
        .map_err(|error| Failure::because(format!("cannot write {}", path.display()), &error))
}

/// Puts the file `new` in the place of `path`, whose content gets the name `old`. At any time, and after a
/// crash too, `path` is one of the two as a whole. Done again, it goes on where it was cut off.
pub(super) fn supersede(path: &Path, new: &Path, old: &Path) -> Result<(), Failure> {
    // A second name, so that there is no moment without the first.
    let kept = match fs::hard_link(path, old) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        kept => kept,
    };
    kept.and_then(|()| fs::rename(new, path))
        .and_then(|()| sync_folder(path))
        .map_err(|error| Failure::because(format!("cannot write {}", path.display()), &error))
}

/// A private file that is written piece by piece, and has its name once it is whole and on the disk. One that is
/// dropped before, or ended by a signal, is removed; one that a kill or a power cut has left behind is removed by the
/// next of the same name.
#[derive(Debug)]
pub(super) struct NewFile {
    /// Locked, by which others see that it is being written.
    file: File,
    /// Its name until then.
    temporary: PathBuf,
    path: PathBuf,
    _removed: OnSignal,
}

impl NewFile {
    /// Begins a file, which must not be there yet.
    ///
    /// # Errors
    ///
    /// Where it is there, or cannot be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        refuse_existing(path)?;
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        remove_left_behind(path, name);
        loop {
            // Of a name of its own each time: what another process writes is not touched.
            let mut unfinished = OsString::from(".");
            unfinished.push(name);
            unfinished.push(format!(".{}.new", Uuid::new_v4().simple()));
            let temporary = path.with_file_name(unfinished);
            let unfinished = temporary.clone();
            let removed = OnSignal::run(move || _ = fs::remove_file(unfinished));
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
            // Where the file system has no locks, nobody can take one and remove it either.
            let _no_locks = file.lock();
            // Another process may have found it before it was locked, and removed it.
            if is_at(&temporary, &file) {
                return Ok(Self { file, temporary, path: path.to_owned(), _removed: removed });
            }
        }
    }

    /// Gives it its name. What has that by now is never overwritten, where the file system has links; where it
    /// has none, it is looked for just before.
    ///
    /// # Errors
    ///
    /// Where that is there by now, or it does not come to the disk.
    pub(super) fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => fs::remove_file(&self.temporary)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {
                refuse_existing(&self.path)?;
                fs::rename(&self.temporary, &self.path)?;
            }
        }
        sync_folder(&self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // It has its name already where all went well.
        let _gone = fs::remove_file(&self.temporary);
    }
}

/// Removes what was to get that name, and was left behind by a process that is no more.
fn remove_left_behind(path: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    for entry in entries.flatten().filter(|entry| is_unfinished(&entry.file_name(), name)) {
        let left = entry.path();
        // A pipe would be waited for, and a link leads elsewhere.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let Ok(file) = options.open(&left) else { continue };
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if is_file && file.try_lock().is_ok() && is_at(&left, &file) {
            match fs::remove_file(&left) {
                Ok(()) => tracing::info!(file = %left.display(), "removed an unfinished file"),
                Err(error) => tracing::debug!(%error, "an unfinished file cannot be removed"),
            }
        }
    }
}

/// Whether a [`NewFile`] has the name `found` until it gets that of `name`.
fn is_unfinished(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_encoded_bytes().strip_prefix(b".");
    let rest = rest.and_then(|rest| rest.strip_prefix(name.as_encoded_bytes()));
    let id = rest.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(b".new"));
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.is_some_and(|id| id.len() == UUID_DIGITS && id.iter().all(is_digit))
}

/// Whether that path leads to that file, and not to another one that came since.
pub(super) fn is_at(path: &Path, file: &File) -> bool {
    let identity = |found: Metadata| (found.dev(), found.ino());
    let (there, held) = (path.symlink_metadata().map(identity), file.metadata().map(identity));
    matches!((there, held), (Ok(there), Ok(held)) if there == held)
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a file that is whole and on the disk its name, which must not be taken yet, for good.
pub(super) fn publish(unfinished: &Path, path: &Path) -> Result<(), Failure> {
    // Unlike a rename, this never takes the place of something.
    fs::hard_link(unfinished, path)
        .and_then(|()| fs::remove_file(unfinished))
        .and_then(|()| sync_folder(path))
        .map_err(|error| Failure::because(format!("cannot make {}", path.display()), &error))
}

/// Removes what [`publish`] leaves behind where it is cut off: a second name of the same file.
pub(super) fn forget_second_name(unfinished: &Path, path: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (identity(unfinished), identity(path)) {
        (Ok(second), Ok(first)) if second == first => {
            fs::remove_file(unfinished).map_err(|error| {
                Failure::because(format!("cannot remove {}", unfinished.display()), &error)
            })
        }
        _ => Ok(()),
    }
}

/// A lock on a folder, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "holds the lock")] File);

impl FolderLock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// A [`Failure`] where another process has it.
    pub(super) fn take(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(".lock");
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened
            .map_err(|error| Failure::because(format!("cannot open {}", path.display()), &error))?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                Failure::new(format!("another okmsd is using {}", folder.display()))
            }
            fs::TryLockError::Error(error) => {
                Failure::because(format!("cannot lock {}", path.display()), &error)
            }
        })?;
        Ok(Self(file))
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a new name durable: without this, a crash can take back a file that others rely on.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Of a UUID without hyphens.
const UUID_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_private_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_folder(&inner).unwrap();
        create(&inner.join("new"), b"x").unwrap();
        replace(&inner.join("put"), b"x").unwrap();
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&inner.join("new")), 0o600);
        assert_eq!(mode(&inner.join("put")), 0o600);
    }

    #[test]
    fn create_never_overwrites_and_replace_always_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create_whole(&path, b"one").unwrap();
        for again in [create, create_whole] {
            let refused = again(&path, b"two").unwrap_err().to_string();
            assert!(refused.contains("exists"), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
        // What a crash in the middle would leave behind.
        fs::write(folder.path().join(".file.new"), b"half").unwrap();
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_has_its_name_when_it_is_whole_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let files = || fs::read_dir(folder.path()).unwrap().count();
        let mut new = NewFile::create(&path).unwrap();
        new.write_all(b"one").unwrap();
        assert!(!path.exists());
        new.commit().unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path), files()), (b"one".into(), 0o600, 1));
        let refused = NewFile::create(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        let late = NewFile::create(&path).unwrap();
        fs::write(&path, b"another").unwrap();
        assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(NewFile::create(&folder.path().join("dropped")).unwrap());
        assert_eq!((fs::read(&path).unwrap(), files()), (b"another".into(), 1));
    }

    #[test]
    fn what_a_kill_has_left_behind_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let id = "0123456789abcdef".repeat(2);
        let left = folder.path().join(format!(".file.{id}.new"));
        fs::write(&left, b"half").unwrap();
        let others = [
            ".file.new".to_owned(),
            format!(".file.{id}"),
            format!(".file.{id}0.new"),
            format!(".file.{}.new", id.to_uppercase()),
            format!(".files.{id}.new"),
            format!("file.{id}.new"),
        ];
        let others = others.map(|name| folder.path().join(name));
        others.iter().for_each(|other| fs::write(other, b"other").unwrap());
        let link = folder.path().join(format!(".file.{}.new", "0".repeat(32)));
        std::os::unix::fs::symlink(&others[0], &link).unwrap();
        let mut running = NewFile::create(&path).unwrap();
        assert!(!left.exists());
        assert!(link.is_symlink() && others.iter().all(|other| other.exists()));
        let beside = NewFile::create(&path).unwrap();
        assert!(running.temporary.exists() && beside.temporary.exists());
        running.write_all(b"one").unwrap();
        running.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn what_is_superseded_is_kept_and_a_second_try_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let [path, new, old] = ["key", "key.new", "key.old"].map(|name| folder.path().join(name));
        create(&path, b"one").unwrap();
        create(&new, b"two").unwrap();
        // As a crash after the first of the two steps would leave it.
        fs::hard_link(&path, &old).unwrap();
        supersede(&path, &new, &old).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&old).unwrap()),
            (b"two".into(), b"one".into())
        );
        assert!(!new.exists());
    }

    #[test]
    fn one_process_at_a_time_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let refused = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.starts_with("another okmsd is using"), "{refused}");
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
    }
}
