//! Layers point one way: which part of the crate may use which, read from its source.
//!
//! This reads text, not Rust: a `crate::` path in code, tests apart, is an arrow. Comments may point
//! anywhere.

use std::{fs, path::Path};

/// A layer and what it may use beside itself.
const ARROWS: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("crypto", &["domain"]),
    ("iam", &["domain"]),
    ("measure", &[]),
    ("buckets", &["domain"]),
    ("audit", &["domain", "measure"]),
    ("clock", &["domain"]),
    ("pki", &["domain"]),
    ("store", &["crypto", "domain", "iam", "measure"]),
    ("service", &["audit", "crypto", "domain", "iam", "measure", "pki", "store"]),
    ("api", &["audit", "buckets", "domain", "measure", "service"]),
    ("server", &["buckets", "domain"]),
    ("app", &["api", "audit", "domain", "measure", "server", "service", "store"]),
];

/// These join the others; nobody but the program uses the command line.
const TOP: [&str; 3] = ["cli", "config", "telemetry"];

/// Lines of a file, its tests apart: a longer one has two subjects.
const MAX_LINES: usize = 600;

#[test]
fn layers_point_one_way() {
    let violations: Vec<String> = sources().flat_map(|source| wrong_arrows(&source)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_part_of_the_crate_has_a_layer() {
    let unknown: Vec<String> = sources()
        .filter(|source| !matches!(&source.layer[..], "lib" | "main"))
        .filter(|source| arrows(&source.layer).is_none() && !TOP.contains(&&source.layer[..]))
        .map(|source| source.file)
        .collect();
    assert!(unknown.is_empty(), "say in this test what these may use: {unknown:?}");
}

#[test]
fn exceptions_from_lints_end_by_themselves_and_have_a_reason() {
    let violations: Vec<String> = sources().flat_map(|source| wrong_exceptions(&source)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources()
        .map(|source| (source.lines.len(), source.file))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, file)| format!("{file} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn the_checker_finds_wrong_arrows() {
    let found = |file: &str, text: &str| wrong_arrows(&Source::new(file, text));
    for (file, text) in [
        ("domain/rules.rs", "use crate::store::Store;"),
        ("domain/mod.rs", "fn f() { crate::clock::now() }"),
        ("domain.rs", "use crate::crypto;"),
        (
            "store/secrets.rs",
            "use crate::{\n    crypto::Key,\n    service::{Keyring, Secrets},\n};",
        ),
        ("store/secrets.rs", "use crate::{crypto::{A, B}, api};"),
        ("service/mod.rs", "pub use crate::api::Error as E;"),
        ("api/v2/config.rs", "use crate::{\n    // why not\n    store::Store,\n};"),
        ("server/tls.rs", "impl From<crate::pki::Error> for Error {}"),
        ("app.rs", "use crate :: cli::run;"),
        ("config/mod.rs", "use crate::cli::Failure;"),
        ("crypto/aead.rs", "use super::super::store::Store;"),
        ("crypto/mod.rs", "use super::store::Store;"),
        ("store/mod.rs", "use crate::*;"),
    ] {
        assert_eq!(found(file, text).len(), 1, "{file}: {text}");
    }
    let told = found("store/secrets.rs", "\nuse crate::{\n    crypto::Key,\n    api::Error,\n};");
    assert_eq!(told, ["src/store/secrets.rs:4: store uses api"]);
    for (file, text) in [
        ("store/secrets.rs", "use crate::{crypto::{api, cli}, domain, store::Store};"),
        ("store/secrets.rs", "//! See [`api`](crate::api).\nuse super::Store;"),
        ("store/secrets.rs", "use x; // as crate::api does"),
        (
            "store/secrets.rs",
            "use super::Store;\n#[cfg(test)]\nmod tests {\n    use crate::api::X;\n}",
        ),
        ("store/tests.rs", "use crate::api::X;"),
        ("server/tests/mod.rs", "use crate::pki::Authority;"),
        ("store/connection.rs", "$crate::store::connection::on_engine!()"),
        ("api/v2/config.rs", "use super::super::body::JsonBody;"),
        ("cli/serve.rs", "use crate::{api, config, domain, store, telemetry};"),
        ("main.rs", "fn main() { okmsd::cli::run() }"),
    ] {
        assert_eq!(found(file, text), [""; 0], "{file}: {text}");
    }
}

#[test]
fn the_checker_finds_wrong_exceptions() {
    let found = |text: &str| wrong_exceptions(&Source::new("a.rs", text)).len();
    assert_eq!(found("#[allow(dead_code)]\nfn f() {}"), 1);
    assert_eq!(found("#![allow(dead_code, reason = \"x\")]"), 1);
    assert_eq!(found("#[expect(dead_code)]\nfn f() {}"), 1);
    assert_eq!(found("#[expect(\n    dead_code,\n    reason = \"x\"\n)]\nfn f() {}"), 0);
    assert_eq!(found("#[expect(dead_code, reason = \"x\")]\nfn f() {}"), 0);
}

/// A file of the crate, without comments and tests.
struct Source {
    /// From the root of the repository.
    file: String,
    /// The part of the crate that it belongs to.
    layer: String,
    /// How many modules deep it is; the crate itself is 0.
    depth: usize,
    lines: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let modules = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let layer = modules.split('/').next().unwrap_or_default().to_owned();
        let is_test = modules.split('/').any(|module| module == "tests");
        let text = if is_test { "" } else { text };
        // By custom, tests are the last thing in a file.
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = text.lines().map(|line| match line.split_once("//") {
            // Not the slashes of a URL.
            Some((code, _)) if !code.ends_with(':') => code.to_owned(),
            _ => line.to_owned(),
        });
        let depth = modules.split('/').count();
        Self { file: format!("src/{path}"), layer, depth, lines: lines.collect() }
    }
}

fn sources() -> impl Iterator<Item = Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(&root).expect("below src").to_str().expect("UTF-8");
                sources.push(Source::new(path, &text));
            }
        }
    }
    assert!(sources.len() > 40, "the source was found");
    sources.into_iter()
}

fn arrows(layer: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(name, _)| *name == layer).map(|(_, uses)| *uses)
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    // The program and the list of modules stand above all layers.
    if source.layer == "lib" || source.layer == "main" {
        return Vec::new();
    }
    let is_allowed = |used: &str| match arrows(&source.layer) {
        _ if used == source.layer => true,
        Some(uses) => uses.contains(&used),
        None => used != "cli" && used != "*",
    };
    let wrong = uses(source).into_iter().filter(|(_, used)| !is_allowed(used));
    let told = wrong
        .map(|(line, used)| format!("{}:{}: {} uses {used}", source.file, line + 1, source.layer));
    told.collect()
}

/// The parts of the crate that a file names, with the lines where it does.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let words: Vec<(usize, String)> = words(source);
    let word = |at: usize| words.get(at).map_or("", |(_, word)| word.as_str());
    let mut uses = Vec::new();
    for at in 0..words.len() {
        let above = (at..).step_by(2).take_while(|at| word(*at) == "super" && word(at + 1) == "::");
        let above = above.count();
        let is_first_super = above > 0 && (at < 2 || word(at - 2) != "super");
        let mut next = match word(at) {
            "crate" if word(at + 1) == "::" => at + 2,
            // As many times up as the file is deep is the crate itself.
            "super" if is_first_super && above >= source.depth => at + 2 * above,
            _ => continue,
        };
        if word(next) != "{" {
            uses.push(words[next].clone());
            continue;
        }
        // The first word of each item of the group.
        let mut open = 0;
        loop {
            match word(next) {
                "" => break,
                "{" => open += 1,
                "}" => open -= 1,
                _ if open == 1 && ["{", ","].contains(&word(next - 1)) => {
                    uses.push(words[next].clone());
                }
                _ => {}
            }
            if open == 0 {
                break;
            }
            next += 1;
        }
    }
    uses
}

/// Identifiers, `::`, and every other character that is not blank; with their lines.
fn words(source: &Source) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in source.lines.iter().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
            let length = if is_name(first) {
                rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            words.push((number, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    words
}

fn wrong_exceptions(source: &Source) -> Vec<String> {
    let text = source.lines.join("\n");
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    let allowed = ["#[allow(", "#![allow("].into_iter().flat_map(|word| text.match_indices(word));
    let allowed = allowed.map(|(at, _)| (at, "use #[expect(…, reason = …)]"));
    let expected = text.match_indices("#[expect(").filter(|(at, _)| {
        let attribute = text[*at..].split(")]").next().unwrap_or_default();
        !attribute.contains("reason = ")
    });
    let expected = expected.map(|(at, _)| (at, "say the reason"));
    let wrong = allowed.chain(expected);
    wrong.map(|(at, what)| format!("{}:{}: {what}", source.file, line(at))).collect()
}
