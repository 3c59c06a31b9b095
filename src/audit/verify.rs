//! Whether chains are whole, and where each first is not.
//!
//! Reads only, and works while a server writes: `head` is read before the files, which then hold all that
//! it speaks of. What a server changes meanwhile may look broken for a moment, so what is found is looked
//! at again.
//!
//! A line is proved by the checkpoint after it, or by `head`, which is signed too. One that neither tells of
//! is unproved: anybody who can write to the file can have added it.

use std::{io, path::Path, thread, time::Duration};

use super::{
    folder, places,
    report::{ChainReport, Seen},
    walk::{Walk, broken_file},
};

/// Verifies all chains in `folder`: the folder of an audit log, of a writer or of a chain.
///
/// # Errors
///
/// Where folders cannot be read, or there is no chain.
pub fn verify(folder: &Path, seen: &[Seen]) -> io::Result<Vec<ChainReport>> {
    let places = places::find(folder)?;
    if places.is_empty() {
        let text = format!("there is no audit log in {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(places.into_iter().map(|place| verify_place(place, seen)).collect())
}

fn verify_place(place: places::Place, seen: &[Seen]) -> ChainReport {
    match place {
        places::Place::Chain(folder) => verify_chain_again(&folder, seen, &mut thread::sleep),
        places::Place::Missing(writer, first, last) => {
            let folder = writer.join(folder::chain_name(first));
            let what = match last - first {
                0 => "the chain is missing".to_owned(),
                _ => format!("the chains up to {} are missing", folder::chain_name(last)),
            };
            broken_folder(&folder, what)
        }
        places::Place::Stray(folder) => {
            broken_folder(&folder, "it holds files of a chain, and other chains".to_owned())
        }
    }
}

fn broken_folder(folder: &Path, what: String) -> ChainReport {
    let broken = Some(broken_file(folder.display().to_string(), what));
    ChainReport { broken, ..ChainReport::new(folder) }
}

/// Verifies a chain, once more where that may be about what a server has not finished yet: what is broken at
/// another look, what nothing proves as long as the server may take to prove it. `pause` waits.
pub(super) fn verify_chain_again(
    folder: &Path,
    seen: &[Seen],
    pause: &mut dyn FnMut(Duration),
) -> ChainReport {
    let writer = folder.parent().unwrap_or(folder);
    let mut waited = Duration::ZERO;
    let mut before = None;
    loop {
        // Before the look: a server that ends meanwhile has proved its lines.
        let is_at_work = folder::is_locked(writer);
        let mut report = verify_chain(folder, seen);
        let unproved = report.unproved.as_ref().and_then(|place| place.seq);
        // What nothing proved is proved now: these lines are new, and those of a server at work.
        if before.is_some() && unproved > before {
            report.unproved = None;
        }
        let look_again = match (&report.broken, &report.unproved) {
            (None, None) => false,
            _ if waited.is_zero() => true,
            (Some(_), _) => false,
            (None, Some(_)) => is_at_work && waited < MAX_WAIT,
        };
        if !look_again {
            return report;
        }
        pause(AGAIN);
        waited += AGAIN;
        before = unproved;
    }
}

pub(super) fn verify_chain(folder: &Path, seen: &[Seen]) -> ChainReport {
    Walk::new(folder, seen).report(folder)
}

/// How long a server may take to finish what looked broken.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// How long a server may take to prove lines that it has written: they are there before the disk has them, and
/// `head` tells of them after that. A disk that takes longer is worth a word.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);
