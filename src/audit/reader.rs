//! The lines of a chain's files, one after the other.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};

use super::{folder, line::MAX_LINE};

/// A line and where it stands.
pub(super) struct Line {
    pub(super) file: String,
    pub(super) file_number: u32,
    pub(super) number: u64,
    pub(super) text: Vec<u8>,
    /// Whether it ends in a newline.
    pub(super) ended: bool,
}

/// The lines of all files, one after the other.
pub(super) struct Lines {
    files: std::vec::IntoIter<(u32, PathBuf)>,
    present: Option<(u32, BufReader<File>, u64)>,
}

impl Lines {
    /// Reads files, by number.
    pub(super) fn new(files: Vec<(u32, PathBuf)>) -> Self {
        Self { files: files.into_iter(), present: None }
    }

    fn read(&mut self) -> Result<Option<Line>, (u32, io::Error)> {
        loop {
            let Some((file, reader, number)) = &mut self.present else {
                let Some((number, path)) = self.files.next() else { return Ok(None) };
                let opened = File::open(path).map_err(|error| (number, error))?;
                self.present = Some((number, BufReader::new(opened), 0));
                continue;
            };
            let file_number = *file;
            let mut text = Vec::new();
            let mut limited = reader.by_ref().take(MAX_LINE as u64);
            limited.read_until(b'\n', &mut text).map_err(|error| (file_number, error))?;
            if text.is_empty() {
                self.present = None;
                continue;
            }
            *number += 1;
            let ended = text.pop_if(|byte| *byte == b'\n').is_some();
            let (file, number) = (folder::file_name(file_number), *number);
            return Ok(Some(Line { file, file_number, number, text, ended }));
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, (u32, io::Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
