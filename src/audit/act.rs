//! Acts of the command line, written without a thread.
//!
//! They share the chain `cli`: each process waits a little for the one before it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{
    ActRecord, Error, Options,
    chain::{Chain, Fault, Rotation},
    folder::{self, Lock},
    line::{Entry, Pending},
    recovery::Ends,
    sinks::{SYSLOG, Syslog},
};
use crate::domain::{Clock, Timestamp};

/// Records an act before anything is done. When this returns, the record is on the disk, signed, and there
/// was room for how it ends as well: a full disk is noticed now. That room is given back, so others may take it
/// before [`end_act`] comes.
///
/// # Errors
///
/// Where it cannot be written: then nothing must be done.
pub fn begin_act(options: &Options, clock: &dyn Clock, act: ActRecord) -> Result<(), Error> {
    record(options, clock, act, true)
}

/// Records how an act ended. When this returns, the record is on the disk, signed.
///
/// # Errors
///
/// Where it cannot be written.
pub fn end_act(options: &Options, clock: &dyn Clock, act: ActRecord) -> Result<(), Error> {
    record(options, clock, act, false)
}

fn record(options: &Options, clock: &dyn Clock, act: ActRecord, more: bool) -> Result<(), Error> {
    let (mut chain, mut lock) = open(options, clock)?;
    let written = write(&mut chain, &mut lock, clock.now(), act, more);
    chain.release();
    // Standard output belongs to the answer of the command.
    if options.syslog {
        let mut log = Syslog::new(SYSLOG);
        for line in chain.outbox.split_inclusive(|byte| *byte == b'\n') {
            if let Err(error) = log.send(line) {
                tracing::warn!(%error, "the system log does not take a line of the audit log");
            }
        }
    }
    written.map_err(|fault| match fault {
        Fault::Io(error) => Error::io(chain.folder)(error),
        left => Error::io(chain.folder)(io::Error::other(left.to_string())),
    })
}

/// Writes and signs an act, where there is room for what comes after it, if more is to come.
pub(super) fn write(
    chain: &mut Chain,
    lock: &mut Lock,
    now: Timestamp,
    act: ActRecord,
    more: bool,
) -> Result<(), Fault> {
    if more {
        chain.reserve()?;
    }
    let entry = Pending::new(now, &Entry::Act(act));
    chain.append_or_leave(&[entry], true, now, lock)?;
    chain.rotate_if_due(now)?;
    chain.checkpoint(now)
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
