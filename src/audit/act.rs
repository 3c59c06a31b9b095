//! Acts of the command line, written without a thread.
//!
//! They share the chain `cli`: each process waits a little for the one before it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    ActRecord, Error, Options,
    chain::{Chain, Fault, Rotation},
    folder::{self, Lock},
    line::{Entry, Notice, Pending, What},
    recovery::Ends,
    sinks::{SYSLOG, Syslog},
};
use crate::domain::Clock;

/// Records an act before anything is done. When this returns, the record is on the disk, signed, and there
/// was room for how it ends as well: a full disk is noticed now. That room is given back, so others may take it
/// before [`end_act`] comes.
///
/// # Errors
///
/// Where it cannot be written: then nothing must be done.
pub fn begin_act(options: &Options, clock: &dyn Clock, act: ActRecord) -> Result<(), Error> {
    let (mut chain, lock) = open(options, clock)?;
    if let Err(error) = chain.reserve() {
        chain.release();
        return Err(Error::Io(chain.folder, error));
    }
    record(options, clock, act, chain, &lock)
}

/// Records how an act ended. When this returns, the record is on the disk, signed.
///
/// # Errors
///
/// Where it cannot be written.
pub fn end_act(options: &Options, clock: &dyn Clock, act: ActRecord) -> Result<(), Error> {
    let (chain, lock) = open(options, clock)?;
    record(options, clock, act, chain, &lock)
}

fn record(
    options: &Options,
    clock: &dyn Clock,
    act: ActRecord,
    mut chain: Chain,
    _lock: &Lock,
) -> Result<(), Error> {
    let folder = chain.folder.clone();
    let io = |fault| match fault {
        Fault::Io(error) => Error::Io(folder.clone(), error),
        Fault::Tampered(why) => Error::Io(folder.clone(), std::io::Error::other(why)),
    };
    let now = clock.now();
    let entry = Pending::new(now, Entry::Act(act));
    let lines = match chain.append(std::slice::from_ref(&entry), true) {
        Err(Fault::Tampered(why)) => {
            let mut lines = chain.leave_file(&why, now).map_err(io)?;
            let notice = Entry::Notice(Notice { what: What::Tampered, detail: Some(why) });
            lines.extend(chain.append(&[Pending::new(now, notice), entry], true).map_err(io)?);
            lines
        }
        lines => lines.map_err(io)?,
    };
    chain.rotate_if_due(now).map_err(io)?;
    chain.checkpoint(now).map_err(io)?;
    chain.release();
    // Standard output belongs to the answer of the command.
    if options.syslog {
        let mut log = Syslog::new(SYSLOG);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if let Err(error) = log.send(line) {
                tracing::warn!(%error, "the system log does not take a line of the audit log");
            }
        }
    }
    Ok(())
}

fn open(options: &Options, clock: &dyn Clock) -> Result<(Chain, Lock), Error> {
    let writer = options.folder.join(WRITER);
    folder::ensure_private(&options.folder)?;
    folder::ensure_private(&writer)?;
    let deadline = Instant::now() + MAX_WAIT;
    loop {
        if let Some(lock) = Lock::take(&writer)? {
            let chain = Chain::open(&writer, Ends::Signed, Rotation::from(options), clock.now())?;
            return Ok((chain, lock));
        }
        if Instant::now() >= deadline {
            return Err(Error::Busy(writer));
        }
        thread::sleep(POLL);
    }
}

const WRITER: &str = "cli";

/// How long an act waits for others that are being recorded; each takes some milliseconds.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How often it looks whether it is its turn.
const POLL: Duration = Duration::from_millis(10);
