//! What the process is denied from its start.

use rustix::{
    fs::Mode,
    process::{self, Resource, Rlimit},
};

use super::Failure;

/// Denies the process core dumps and tracing by others of its user, and denies everybody else the
/// files that it makes.
///
/// Root keys and plaintext are in its memory, and its database is made by a library that knows
/// only the umask.
pub(super) fn harden() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    process::setrlimit(Resource::Core, none)
        .map_err(|error| Failure::because("cannot switch off core dumps", &error))?;
    #[cfg(target_os = "linux")]
    process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::because("cannot switch off tracing by others", &error))?;
    process::umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Lets the process open as many files as the system allows it, and says how many that is.
///
/// The usual soft limit of 1,024 is for programs that use `select`; connections would use it up long
/// before the limits of the listeners hold, and then the database could not be reached either.
pub(super) fn raise_open_files() -> u64 {
    let limit = process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let granted = match process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    granted.unwrap_or(u64::MAX)
}
