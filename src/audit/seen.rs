//! Where chains end, to be kept elsewhere.

use std::{io, path::Path};

use super::{
    head::Head,
    places::{self, Place},
    report::Seen,
};

/// The last line of each chain in `folder`, as its `head` tells and the disk has it: no power cut takes it, so
/// whoever misses it later knows that somebody did. A chain whose `head` cannot be read is left out; that is
/// for a verification to find.
///
/// # Errors
///
/// Where folders cannot be read.
pub fn last_lines(folder: &Path) -> io::Result<Vec<Seen>> {
    let mut lines = Vec::new();
    for place in places::find(folder)? {
        let Place::Chain(chain) = place else { continue };
        match Head::read(&chain) {
            Ok((head, _)) => {
                let (seq, hash) = match head.synced {
                    Some(synced) => (synced.seq, synced.hash),
                    None => (head.seq, head.hash),
                };
                lines.push(Seen { chain: head.chain, seq, hash });
            }
            Err(error) => {
                tracing::warn!(%error, chain = %chain.display(), "the end of a chain cannot be read");
            }
        }
    }
    Ok(lines)
}
