//! Running the command that gives a key, such as a client of a KMS or an HSM.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::{Error, value::CommandLine};

/// Runs the command of a setting and gives the one line that it prints.
///
/// It gets no input. What it writes to standard error is not shown: it may repeat what it was given. It is
/// ended, with all that it has started, when its time is over.
///
/// # Errors
///
/// [`Error::Command`] where it cannot be run, fails, takes too long, or prints anything but one line.
pub(super) fn read_line(
    setting: &'static str,
    command: &CommandLine,
) -> Result<Zeroizing<String>, Error> {
    read_line_within(setting, command, TIME)
}

fn read_line_within(
    setting: &'static str,
    command: &CommandLine,
    time: Duration,
) -> Result<Zeroizing<String>, Error> {
    let (program, arguments) = match &command.0[..] {
        [program, arguments @ ..] => (program.clone(), arguments),
        [] => return Err(Error::Command(setting, String::new(), "names no program".into())),
    };
    let failed = |why: String| Error::Command(setting, program.clone(), why);
    let spawned = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that what it starts can be ended with it.
        .process_group(0)
        .spawn();
    let mut child = spawned.map_err(|error| failed(format!("cannot be run: {error}")))?;
    let deadline = Instant::now() + time;
    let output = read_output(&mut child, time);
    let status = match &output {
        Some(_) => wait_until(&mut child, deadline),
        None => None,
    };
    let Some((output, status)) = output.zip(status) else {
        end(&mut child);
        return Err(failed(format!("took longer than {} s", time.as_secs_f32())));
    };
    if !status.success() {
        return Err(failed(format!("failed ({status}); run it by hand to see why")));
    }
    let line = std::str::from_utf8(&output).map(str::trim).unwrap_or_default();
    if output.len() > MAX_OUTPUT || line.is_empty() || line.contains('\n') {
        return Err(failed("must print one short line of text".into()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// What the child prints until it closes its output, or a little more than it may; nothing where that
/// takes too long.
fn read_output(child: &mut Child, time: Duration) -> Option<Zeroizing<Vec<u8>>> {
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // In a thread of its own, since reading a pipe cannot be given a time limit.
    thread::spawn(move || {
        // Of its full size at once: a growing buffer would leave unwiped copies behind.
        let mut output = Zeroizing::new(vec![0; MAX_OUTPUT + 1]);
        let mut length = 0;
        while length < output.len() {
            match stdout.read(&mut output[length..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => length += read,
            }
        }
        output.truncate(length);
        // Nobody waits any more where time is over.
        let _late = sender.send(output);
    });
    receiver.recv_timeout(time).ok()
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => return None,
        }
    }
}

fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It may have ended by itself meanwhile.
    let _gone = group.map(|group| kill_process_group(group, Signal::KILL));
    let _gone = child.kill();
    let _status = child.wait();
}

/// How long the command may take: a call over a network with some retries, within what a service manager
/// waits for a start.
const TIME: Duration = Duration::from_secs(30);
/// Bytes that it may print; a key in base64 has 44.
const MAX_OUTPUT: usize = 4_096;
/// How often to look whether it has ended, once its output has.
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<String, String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let line = read_line_within("x", &CommandLine(words.to_vec()), Duration::from_secs(2));
        line.map(|line| line.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn its_one_line_is_the_key() {
        assert_eq!(run("echo ' hunter2 '; echo noise >&2").unwrap(), "hunter2");
        assert_eq!(run("cat; printf hunter2").unwrap(), "hunter2");
    }

    #[test]
    fn whatever_else_it_does_is_refused_without_what_it_printed() {
        for (script, why) in [
            ("echo hunter2; echo hunter2 >&2; exit 3", "failed (exit status: 3)"),
            ("echo hunter2; kill -9 $$", "failed (signal: 9"),
            ("true", "must print one short line"),
            ("echo hunter2; echo hunter2", "must print one short line"),
            ("printf '\\377'", "must print one short line"),
            ("head -c 4097 /dev/zero | tr '\\0' x", "must print one short line"),
            ("echo hunter2; sleep 60", "took longer than 2 s"),
            ("echo hunter2; exec >&-; sleep 60", "took longer than 2 s"),
            ("sleep 60 & echo hunter2", "took longer than 2 s"),
        ] {
            let begun = Instant::now();
            let refused = run(script).unwrap_err();
            assert!(refused.contains(why), "{script}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        }
        let absent =
            read_line("x", &CommandLine(vec!["/nowhere/x".into()])).unwrap_err().to_string();
        assert!(absent.contains("/nowhere/x, cannot be run"), "{absent}");
    }

    #[test]
    fn one_that_prints_without_end_is_ended() {
        let refused = run("yes hunter2").unwrap_err();
        // Its pipe is closed on it, or its time is over.
        assert!(refused.contains("failed") || refused.contains("took longer"), "{refused}");
    }

    #[test]
    fn what_it_has_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alive");
        let script = format!("(sleep 4; touch '{}') & wait", file.display());
        run(&script).unwrap_err();
        thread::sleep(Duration::from_secs(3));
        assert!(!file.exists());
    }
}
