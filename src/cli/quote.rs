//! Text for shells, YAML and TOML.

use std::{fmt::Write, path::Path};

use super::Failure;

/// One word of a POSIX shell, whatever is in it.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A double-quoted string that TOML and YAML both read back as `text`.
pub(super) fn double(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(letter);
            }
            // Control characters, and what YAML takes for the end of a line.
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') => {
                // Writing to a string cannot fail.
                let _infallible = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The text of a path, which is to be written into a file of text.
pub(super) fn path(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::new(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const AWKWARD: &str = "a b'c\"d\\e$HOME`x`\t\u{7f}é\n%";

    #[test]
    fn a_shell_reads_back_the_same() {
        let script = format!("printf %s {}", shell(AWKWARD));
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), AWKWARD);
    }

    #[test]
    fn toml_reads_back_the_same() {
        let table: toml::Table = format!("key = {}", double(AWKWARD)).parse().unwrap();
        assert_eq!(table["key"].as_str(), Some(AWKWARD));
    }
}
