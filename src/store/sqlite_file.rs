//! The file of a SQLite database, from outside: made private, and held by one server.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    io::Errno,
};
use sqlx::SqliteConnection;

use super::{Connection, DatabaseUrl, StoreError, connection::fetch_all};
use crate::domain::Error;

impl DatabaseUrl {
    /// Looks whether the file of a SQLite database can be opened, or made where it is not there, without doing so.
    ///
    /// # Errors
    ///
    /// Where others may access it, or this process may not write to it or beside it.
    pub fn check_file(&self) -> Result<(), Error> {
        let Some(path) = self.sqlite_path() else { return Ok(()) };
        let checked = check(path, file_system_of);
        checked.map_err(|error| unavailable(path, &error))
    }

    /// Refuses a SQLite database whose file is not there, or is empty. Of PostgreSQL, only who opens it can tell.
    ///
    /// # Errors
    ///
    /// Where there is nothing.
    pub fn refuse_absent(&self) -> Result<(), Error> {
        self.sqlite_path().map_or(Ok(()), refuse_absent)
    }

    /// Keeps every other server off a SQLite database until this process ends, however it ends. The command
    /// line works beside a server all the same. PostgreSQL is for any number of servers.
    ///
    /// To be called once, before this process opens the database.
    ///
    /// # Errors
    ///
    /// Where another server has it, the file cannot be written, or lies where no such lock can be relied on.
    pub fn hold_for_server(&self) -> Result<(), Error> {
        let Some(path) = self.sqlite_path() else { return Ok(()) };
        hold(path).map_err(|error| unavailable(path, &error))
    }
}

/// The lock is on the file itself, so that links, other paths and a new name all lead to the same one. It is
/// one of flock(2), which SQLite does not use and does not see.
fn hold(path: &Path) -> io::Result<()> {
    create_private(path)?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    refuse_other_machines(file_system_of(path)?)?;
    check_log(&path.canonicalize()?)?;
    match file.try_lock() {
        // Never closed: a process that closes any descriptor of a file loses all its POSIX locks on that file, and
        // those are SQLite's.
        Ok(()) => std::mem::forget::<File>(file),
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::other(
                "another server runs on it, and SQLite is for one; end that one first, or use PostgreSQL",
            ));
        }
        Err(TryLockError::Error(error)) => {
            return Err(io::Error::new(error.kind(), format!("it cannot be locked: {error}")));
        }
    }
    Ok(())
}

fn check(path: &Path, file_system_of: impl Fn(&Path) -> io::Result<u64>) -> io::Result<()> {
    // A link that leads nowhere is there, too, and no file can be made in its place.
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
        // Its log lies beside the file that a link leads to.
        Ok(_) => Some(path.canonicalize()?),
    };
    let folder = folder_of(file.as_deref().unwrap_or(path));
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        io::Error::new(error.kind(), format!("the folder {}: {error}", folder.display()))
    })?;
    refuse_lone_log(path)?;
    refuse_other_machines(file_system_of(file.as_deref().unwrap_or(folder))?)?;
    if let Some(file) = &file {
        let found = fs::metadata(file)?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        check_private(path, &found)?;
        access(file, Access::READ_OK | Access::WRITE_OK)?;
        check_log(file)?;
    }
    Ok(())
}

/// Looks whether what lies beside a file can be written, where it is there: without that, SQLite reads and no more, and
/// every write fails.
fn check_log(file: &Path) -> io::Result<()> {
    for log in logs_of(file) {
        match access(&log, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                let log = log.display();
                let text = format!(
                    "{log}: {error}; the user of the server must be able to write it, as the database: \
                     see chown and chmod 600"
                );
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(())
}

/// Refuses a file that is not there or is empty: a store is never that small.
pub(super) fn refuse_absent(path: &Path) -> Result<(), Error> {
    refuse_lone_log(path).map_err(|error| unavailable(path, &error))?;
    let is_absent = match fs::metadata(path) {
        Ok(found) => found.is_file() && found.len() == 0,
        // Anything else is told by who opens it.
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if is_absent {
        return Err(Error::Unavailable(format!(
            "there is no database at {}; `okmsd serve` and `okmsd domain create` make one",
            path.display()
        )));
    }
    Ok(())
}

/// Makes the file before SQLite would, so that it is private from its first moment; SQLite gives the
/// WAL the same mode.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    refuse_lone_log(path)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            check_private(path, &fs::metadata(path)?)
        }
        Err(error) => Err(error),
    }
}

/// Refuses to begin anew where the log of a file lies that is not there: SQLite would remove it, and with it perhaps
/// what was written last to a file that somebody has moved away.
fn refuse_lone_log(path: &Path) -> io::Result<()> {
    for log in logs_of(path) {
        // The file is looked for last: another process may make both just now.
        if fs::symlink_metadata(&log).is_ok() && fs::symlink_metadata(path).is_err() {
            return Err(io::Error::other(format!(
                "it is not there, but {} is: put the file back beside it, or move that away, too",
                log.display()
            )));
        }
    }
    Ok(())
}

/// What SQLite has beside a file: its log, and the index of that.
fn logs_of(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        log.into()
    })
}

fn check_private(path: &Path, found: &Metadata) -> io::Result<()> {
    let mode = found.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(io::Error::other(format!(
            "others may access it (mode {:03o}); run: chmod 600 {}",
            mode & 0o777,
            path.display()
        )));
    }
    Ok(())
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// A failure of the file in the words of the domain.
pub(super) fn unavailable(path: &Path, error: &io::Error) -> Error {
    Error::Unavailable(format!("SQLite file {}: {error}", path.display()))
}

/// Refuses a file whose schema is not text. SQLite takes any bytes for the type of a column, but sqlx panics where they
/// are not UTF-8, and whoever has sent more to the connection's thread meanwhile waits for ever.
pub(super) async fn refuse_damaged_schema(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), Error> {
    // What is computed has no type of a column.
    let sql = "SELECT CAST(coalesce(sql, '') AS BLOB) FROM sqlite_schema";
    let schema = fetch_all!(&mut Connection::Sqlite(connection), (Vec<u8>,), sql);
    let schema = schema.map_err(StoreError::Sql)?;
    if schema.iter().all(|(sql,)| str::from_utf8(sql).is_ok()) {
        return Ok(());
    }
    Err(unavailable(path, &io::Error::other("its schema is damaged")))
}

/// The kind of the file system that something lies on, as statfs(2) tells it; 0 where that is not known.
fn file_system_of(path: &Path) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::statfs(path)?.f_type as u64);
    #[cfg(not(target_os = "linux"))]
    return Ok(0);
}

fn refuse_other_machines(file_system: u64) -> io::Result<()> {
    if is_of_another_machine(file_system) {
        return Err(io::Error::other(
            "it lies on a file system of another machine, on which SQLite's log does not work; use a disk of \
             this machine, or PostgreSQL",
        ));
    }
    Ok(())
}

/// Whether statfs(2) tells of a file system whose files other machines have open, too: there flock(2) is turned
/// into a lock that SQLite meets, and the log needs memory that all processes share.
fn is_of_another_machine(file_system: u64) -> bool {
    // The numbers have 32 bits; some platforms extend their sign.
    REMOTE_FILE_SYSTEMS.contains(&(file_system & 0xffff_ffff))
}

/// NFS, SMB, CIFS, SMB2: see statfs(2).
const REMOTE_FILE_SYSTEMS: [u64; 4] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_schema_that_is_not_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let url = DatabaseUrl::sqlite_file(&path);
        let store = Store::open(&url).await.unwrap();
        store.close().await;
        let good = fs::read(&path).unwrap();
        let is_type = |at: &usize| good[*at..].starts_with(b" NOT NULL");
        let types: Vec<_> = (0..good.len()).filter(is_type).collect();
        let mut refused = 0;
        for at in &types {
            let mut flipped = good.clone();
            flipped[at - 1] |= 0x80;
            fs::write(&path, flipped).unwrap();
            let error = format!("{:?}", Store::open(&url).await.map(drop).unwrap_err());
            // Of its strict tables, SQLite says so itself.
            let damaged = error.contains("its schema is damaged");
            assert!(damaged || error.contains("malformed"), "{error}");
            refused += usize::from(damaged);
        }
        // Those of the migrations are not strict.
        assert!(types.len() > 20 && refused >= 3, "{refused} of {}", types.len());
    }

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_number() {
        for number in [0x6969, 0xff53_4d42, 0xffff_ffff_ff53_4d42] {
            assert!(is_of_another_machine(number), "{number:x}");
        }
        // ext4, tmpfs, XFS, overlayfs
        for number in [0xef53, 0x0102_1994, 0x5846_5342, 0x794c_7630] {
            assert!(!is_of_another_machine(number), "{number:x}");
        }
    }

    #[test]
    fn a_check_looks_where_the_file_lies_or_would() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let (near, far) = (base.join("near"), base.join("far"));
        fs::create_dir(&near).unwrap();
        fs::create_dir(&far).unwrap();
        let file_system = |path: &Path| Ok(if path.starts_with(&far) { 0x6969 } else { 0xef53 });
        let check = |path: &Path| check(path, file_system).map_err(|error| error.to_string());
        let refused = |path: &Path| check(path).unwrap_err().contains("of another machine");
        assert_eq!(check(&near.join("new.db")), Ok(()));
        assert!(refused(&far.join("new.db")));
        for file in [near.join("a.db"), far.join("a.db")] {
            create_private(&file).unwrap();
        }
        assert_eq!(check(&near.join("a.db")), Ok(()));
        let link = |name: &str, to: &Path| {
            std::os::unix::fs::symlink(to, base.join(name)).unwrap();
            base.join(name)
        };
        assert_eq!(check(&link("to_near", &near.join("a.db"))), Ok(()));
        assert!(refused(&link("to_far", &far.join("a.db"))));
        // What is left of a file that was moved away is not lost for a new one.
        for suffix in ["-wal", "-shm"] {
            let moved = near.join(format!("moved{suffix}.db"));
            let log = near.join(format!("moved{suffix}.db{suffix}"));
            fs::write(&log, "x").unwrap();
            assert!(check(&moved).unwrap_err().contains("put the file back"), "{suffix}");
            assert!(hold(&moved).unwrap_err().to_string().contains("put the file back"));
            assert!(!moved.exists() && log.exists());
        }
        // As a server would find.
        let nowhere = link("to_nowhere", &near.join("absent.db"));
        assert!(check(&nowhere).unwrap_err().contains("No such file"));
        assert!(hold(&nowhere).unwrap_err().to_string().contains("No such file"));
    }
}
