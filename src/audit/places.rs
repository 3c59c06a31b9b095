//! Where the chains of a folder are, and what stands where no chain may be.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{folder, head::Head};

/// A place that a verification looks at.
#[derive(Debug)]
pub(super) enum Place {
    /// The folder of a chain.
    Chain(PathBuf),
    /// Chains from one number to another that are not there, of the writer whose folder this is.
    Missing(PathBuf, u32, u32),
    /// A folder of chains that holds files of a chain itself.
    Stray(PathBuf),
}

/// Finds all chains in `folder`, the folder of an audit log, of a writer or of a chain.
///
/// Files of a chain make a folder that chain only where no other is below it: otherwise, two of them in
/// the folder of a log would hide all the others.
pub(super) fn find(folder: &Path) -> io::Result<Vec<Place>> {
    let mut writers = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_chain_number = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| folder::chain_number(name).is_some());
        writers.extend(Some(path).filter(|path| path.is_dir() && !is_chain_number));
    }
    writers.sort_unstable();
    let mut found = Vec::new();
    let mut is_stray = false;
    for writer in writers {
        let chains = folder::chains(&writer)?;
        if is_chain(&writer) {
            if writer == folder {
                is_stray = true;
            } else if chains.is_empty() {
                found.push(Place::Chain(writer.clone()));
            } else {
                found.push(Place::Stray(writer.clone()));
            }
        }
        let mut next = 1;
        for (number, path) in chains {
            // One that is missing among its like is reported as any other; a great many, as one.
            if number > next {
                found.push(Place::Missing(writer.clone(), next, number - 1));
            }
            next = number.saturating_add(1);
            found.push(Place::Chain(path));
        }
    }
    match (is_stray, found.is_empty()) {
        (true, true) => found.push(Place::Chain(folder.to_owned())),
        (true, false) => found.insert(0, Place::Stray(folder.to_owned())),
        (false, _) => {}
    }
    Ok(found)
}

fn is_chain(path: &Path) -> bool {
    Head::path(path).exists() || folder::files(path).is_ok_and(|files| !files.is_empty())
}
