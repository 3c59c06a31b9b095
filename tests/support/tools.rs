//! Programs that a machine may lack.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Whether all these programs are on this machine. Where one is not, the test that asks is left out,
/// and that is said aloud; in CI it is a failure.
pub fn at_hand(tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| {
        let script = format!("command -v {tool}");
        let found = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    });
    let Some(missing) = missing else { return true };
    leave_out(&format!("{missing} was not found"));
    false
}

/// Says aloud that the test that calls is left out; in CI nothing is.
pub fn leave_out(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os("CI").is_none(), "{test}: {why}");
    // Not through a macro of the standard library: those are captured.
    let _ = writeln!(std::io::stderr(), "\n=== LEFT OUT: {test}. {why} ===\n");
}
