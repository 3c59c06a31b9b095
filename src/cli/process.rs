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
