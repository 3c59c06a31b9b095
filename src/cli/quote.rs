//! Text for shells, YAML and TOML.

use std::path::Path;

use super::{Failure, output};

/// One word of a POSIX shell, whatever is in it.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A double-quoted string that TOML and YAML both read back as `text`.
pub(super) fn double(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{}\"", output::one_line(&text))
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
