//! Standard output, and the last word on standard error.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, ErrorKind, Write as _},
};

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

/// Lines of columns, as wide as what is in them, which may be any text.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| one_line(cell))).collect();
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
    let rows = rows.iter().map(|row| line(row.each_ref().map(|cell| &**cell)));
    [line(head)].into_iter().chain(rows).collect()
}

/// Lines of a name and a value, which may be any text.
pub(super) fn fields(fields: &[(&str, &str)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let line = |(name, value): &(&str, &str)| {
        format!("{:<width$} {}\n", format!("{name}:"), one_line(value))
    };
    fields.iter().map(line).collect()
}

/// A text that may be anything, such as one that is stored, for a place within a line. What a terminal might
/// take for an order, or for a reason to show the rest in another order, is written as in JSON and TOML:
/// `\u001b`.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`one_line`], for a text of many lines.
fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |rest| rest.starts_with(['\n', '\t']) || rest.starts_with("\r\n"))
}

/// Escapes what may drive a terminal, but where what begins there is to be kept.
fn escaped(text: &str, keep: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let is_kept = |(at, letter): (usize, char)| !drives_terminal(letter) || keep(&text[at..]);
    if text.char_indices().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        match letter {
            letter if is_kept((at, letter)) => safe.push(letter),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            letter => {
                // Writing to a string cannot fail.
                let _infallible = write!(safe, "\\u{:04x}", u32::from(letter));
            }
        }
    }
    Cow::Owned(safe)
}

/// Whether a character is a control character, ends a line, or changes the direction of writing.
fn drives_terminal(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}')
}

/// Writes text to standard output, control characters escaped.
///
/// A reader that went away (`okmsd … | head`) has what it wanted: that is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(lines(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::because("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error, for a person who waits.
pub(super) fn tell(line: &str) {
    // Nobody waits where it is closed.
    let _closed = writeln!(io::stderr(), "{}", lines(line));
}

/// Writes sentences, a line each, to standard error.
pub(super) fn complain(sentences: &str) {
    for sentence in sentences.lines() {
        // Where standard error is closed, the exit code has to do.
        let _closed = writeln!(io::stderr(), "okmsd: {}", lines(sentence));
    }
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

    #[test]
    fn no_text_drives_a_terminal() {
        let text = "é\\\"\u{1b}[2J\u{9b}2J\u{7f}\0\u{202e}\u{2028}\n\t\r";
        let safe = "é\\\"\\u001b[2J\\u009b2J\\u007f\\u0000\\u202e\\u2028\\n\\t\\r";
        assert_eq!(one_line(text), safe);
        assert_eq!(table(["A"], &[[text.to_owned()]]), format!("A\n{safe}\n"));
        assert_eq!(fields(&[("a", text)]), format!("a: {safe}\n"));
        assert_eq!(lines("a\tb\nc\r\nd\re\u{1b}"), "a\tb\nc\r\nd\\re\\u001b");
        // What is written as JSON stays the same JSON.
        let json = serde_json::json!({"text": text});
        let read: Value = serde_json::from_str(&lines(&format!("{json:#}"))).unwrap();
        assert_eq!(read, json);
        assert!(!lines(&format!("{json:#}")).contains(['\u{9b}', '\u{7f}', '\u{202e}']));
    }
}
