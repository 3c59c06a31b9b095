//! Whether chains are whole, and where each first is not.
//!
//! Reads only, and works while a server writes: `head` is read before the files, which then hold all that
//! it speaks of. What a server changes meanwhile may look broken for a moment, so what is found is looked
//! at once more.
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
        places::Place::Chain(folder) => verify_chain_again(&folder, seen),
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

pub(super) fn verify_chain_again(folder: &Path, seen: &[Seen]) -> ChainReport {
    let mut report = verify_chain(folder, seen);
    for look in 0..LOOKS {
        let unproved = match &report {
            ChainReport { broken: Some(_), .. } if look > 0 => return report,
            ChainReport { broken: None, unproved: None, .. } => return report,
            report => report.unproved.as_ref().and_then(|place| place.seq),
        };
        thread::sleep(AGAIN);
        report = verify_chain(folder, seen);
        let now = report.unproved.as_ref().and_then(|place| place.seq);
        // What nothing proved is proved now: these lines are new, and those of a server at work.
        if unproved.is_some_and(|before| now.is_some_and(|now| now > before)) {
            report.unproved = None;
        }
    }
    report
}

pub(super) fn verify_chain(folder: &Path, seen: &[Seen]) -> ChainReport {
    Walk::new(folder, seen).report(folder)
}

/// How long a server may take to finish what looked broken.
const AGAIN: Duration = Duration::from_millis(200);

/// How often is looked again whether `head` follows: a line is there before the disk has it, which may take
/// a second, and `head` tells of it after that.
const LOOKS: u32 = 10;
