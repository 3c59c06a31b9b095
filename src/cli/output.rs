//! Standard output, and the last word on standard error.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::Failure;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Writes an answer in the form asked for.
pub(super) fn answer(
    format: Format,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    match format {
        Format::Text => print(&text()),
        Format::Json => print(&format!("{:#}\n", json())),
    }
}

/// Lines of columns, as wide as what is in them.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.chain([head[column].len()]).max().unwrap_or_default()
    };
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            line.push_str(&format!("{cell:<width$}  ", width = width(column)));
        }
        format!("{}\n", line.trim_end())
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    [line(head)].into_iter().chain(rows).collect()
}

/// Lines of a name and a value.
pub(super) fn fields(fields: &[(&str, &str)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    fields.iter().map(|(name, value)| format!("{:<width$} {value}\n", format!("{name}:"))).collect()
}

/// Writes text to standard output.
///
/// A reader that went away (`okmsd … | head`) has what it wanted: that is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::because("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error, for a person who waits.
pub(super) fn tell(line: &str) {
    // Nobody waits where it is closed.
    let _closed = writeln!(io::stderr(), "{line}");
}

/// Writes one sentence to standard error.
pub(super) fn complain(sentence: &str) {
    // Where standard error is closed, the exit code has to do.
    let _closed = writeln!(io::stderr(), "okmsd: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "é".to_owned()], ["100".to_owned(), String::new()]];
        assert_eq!(table(["ID", "NAME"], &rows), "ID   NAME\n1    é\n100\n");
        assert_eq!(fields(&[("a", "1"), ("long", "2")]), "a:    1\nlong: 2\n");
    }
}
