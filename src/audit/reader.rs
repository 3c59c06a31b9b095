//! The lines of a chain's files, one after the other.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Take},
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
    present: Option<(u32, BufReader<Take<File>>, u64)>,
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
                // What a server adds meanwhile is not read: the rest of a line that it was just writing would
                // look like a line of its own.
                let length = opened.metadata().map_err(|error| (number, error))?.len();
                self.present = Some((number, BufReader::new(opened.take(length)), 0));
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[test]
    fn the_rest_of_a_line_that_was_being_written_is_no_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.jsonl");
        fs::write(&path, "whole\nbeing wr").unwrap();
        let mut lines = Lines::new(vec![(1, path.clone())]);
        assert!(lines.next().unwrap().unwrap().ended);
        let last = lines.next().unwrap().unwrap();
        assert_eq!((&last.text[..], last.ended), (&b"being wr"[..], false));
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"itten\nand another\n").unwrap();
        assert!(lines.next().is_none());
    }
}
