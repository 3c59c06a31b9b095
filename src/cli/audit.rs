//! `okmsd audit`: the audit log, verified.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    config_args::ConfigArguments,
    output::{self, Format},
};
use crate::{
    audit::{self, Broken, ChainReport, Seen, Told},
    config::Environment,
};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check that nothing was changed, removed, reordered or cut off, and say where it first was
    ///
    /// Ends with 1 where something is broken, or where lines at the end are proved by nothing. Works while a server writes, and on a copy.
    Verify(Verify),
    /// Print the key that each chain begins with, to be kept where this machine cannot reach it
    ///
    /// Ends with 1 where a chain is broken, and says which one.
    Key(Key),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    place: Place,
    /// A key that a chain may begin with, as `okmsd audit key` printed it; can be given several times.
    /// Then no other chain is accepted, and each of these must be there
    #[arg(long = "trusted-key", value_name = "KEY")]
    trusted_keys: Vec<String>,
    /// A line that must be there, as an earlier run printed it (`last proved line`); can be given several
    /// times. One that went with a file that was removed by age is missing, too
    #[arg(long, value_name = "CHAIN:LINE:HASH", value_parser = seen)]
    seen: Vec<Seen>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(flatten)]
    place: Place,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Which audit log is meant.
#[derive(Debug, Args)]
struct Place {
    /// Folder of an audit log, of one of its writers or of a chain [default: audit.folder of the
    /// configuration]
    #[arg(value_name = "FOLDER", conflicts_with_all = ["config", "data_dir"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Verify(arguments) => arguments.run(environment),
            Self::Key(arguments) => arguments.run(environment),
        }
    }
}

impl Verify {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let mut reports = self.place.verify(environment, &self.seen)?;
        let mut missing = self.trusted_keys.clone();
        for report in &mut reports {
            missing.retain(|key| *key != report.first_key);
            if report.broken.is_none() && !self.is_trusted(report) {
                report.broken = Some(Broken {
                    file: report.folder.display().to_string(),
                    line: None,
                    seq: None,
                    what: format!("it begins with {}, which is no trusted key", report.first_key),
                });
            }
        }
        let seen = |seen: &&Seen| !reports.iter().any(|report| report.chain == seen.chain);
        let lost = self.seen.iter().filter(seen).map(|seen| format!("chain {} is", seen.chain));
        let removed = reports.iter().flat_map(|report| {
            let chain = &report.chain;
            let line = move |seq| format!("line {chain}:{seq} was removed by age: it is");
            report.seen_removed.iter().map(line)
        });
        let lost: Vec<_> = missing
            .iter()
            .map(|key| format!("no chain begins with {key}: it is"))
            .chain(lost)
            .chain(removed)
            .collect();
        output::answer(
            self.format,
            || reports.iter().map(text).collect(),
            || reports.iter().map(json).collect(),
        )?;
        none_broken(&reports)?;
        if let Some(lost) = lost.first() {
            return Err(Failure::new(format!("{lost} missing")));
        }
        match reports.iter().filter(|report| report.unproved.is_some()).count() {
            0 => Ok(()),
            unproved => Err(Failure::new(format!(
                "{unproved} of {} chains end with lines that nothing proves",
                reports.len()
            ))),
        }
    }

    fn is_trusted(&self, report: &ChainReport) -> bool {
        self.trusted_keys.is_empty() || self.trusted_keys.contains(&report.first_key)
    }
}

impl Key {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let reports = self.place.verify(environment, &[])?;
        output::answer(
            self.format,
            || {
                let row = |report: &ChainReport| {
                    let key = known_key(report).unwrap_or("-").to_owned();
                    let state = if report.broken.is_some() { "BROKEN" } else { "whole" };
                    [report.writer.clone(), report.chain.clone(), key, state.to_owned()]
                };
                let rows: Vec<_> = reports.iter().map(row).collect();
                output::table(["WRITER", "CHAIN", "KEY", "STATE"], &rows)
            },
            || {
                let json = |report: &ChainReport| {
                    json!({
                        "writer": report.writer,
                        "chain": report.chain,
                        "key": known_key(report),
                        "broken": report.broken.as_ref().map(broken_json),
                    })
                };
                reports.iter().map(json).collect()
            },
        )?;
        // Whoever keeps the key of a chain that is not whole vouches for what somebody else may have written.
        none_broken(&reports)
    }
}

impl Place {
    fn verify(
        &self,
        environment: &Environment,
        seen: &[Seen],
    ) -> Result<Vec<ChainReport>, Failure> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => self.config.load(environment)?.audit.folder,
        };
        audit::verify(&folder, seen).map_err(|error| {
            Failure::because(format!("cannot verify {}", folder.display()), &error)
        })
    }
}

fn none_broken(reports: &[ChainReport]) -> Result<(), Failure> {
    match reports.iter().filter(|report| report.broken.is_some()).count() {
        0 => Ok(()),
        broken => Err(Failure::new(format!("{broken} of {} chains are broken", reports.len()))),
    }
}

/// The key that a chain begins with, where it could be read.
fn known_key(report: &ChainReport) -> Option<&str> {
    Some(report.first_key.as_str()).filter(|key| !key.is_empty())
}

fn text(report: &ChainReport) -> String {
    let mut text = format!("{}: ", report.folder.display());
    text.push_str(&match (&report.broken, &report.unproved) {
        (None, None) => format!("whole, {} lines{}", report.lines, told(&report.told)),
        (Some(broken), _) => format!("BROKEN at {}", place(broken)),
        (None, Some(unproved)) => format!("UNPROVED from {}", place(unproved)),
    });
    text.push('\n');
    let unsigned = format!("{} lines at the end are not signed yet", report.unsigned);
    let more = format!("{} notes more", report.more_notes);
    let notes = report.notes.iter();
    let notes = notes.chain((report.more_notes > 0).then_some(&more));
    let notes = notes.chain((report.unsigned > 0).then_some(&unsigned));
    let removed: Vec<_> = report.seen_removed.iter().map(seen_removed).collect();
    let notes = notes.chain(&removed);
    notes.for_each(|note| text.push_str(&format!("  {note}\n")));
    if let Some((seq, hash)) = &report.proved {
        text.push_str(&format!("  last proved line {}:{seq}:{hash}\n", report.chain));
    }
    text
}

fn seen_removed(seq: &u64) -> String {
    format!("line {seq} was seen before, in a file that was removed by age: it cannot be compared")
}

/// What a chain tells of, the worst first.
fn told(told: &Told) -> String {
    let counts = [
        (told.tampered, "tampering"),
        (told.unproved, "unproved lines"),
        (told.lost, "losses"),
        (told.interrupted, "interruptions"),
        (told.removed, "files removed by age"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, what)| format!("{what} ({count})")).collect();
    match counts.is_empty() {
        true => String::new(),
        false => format!(", which tell of {}", counts.join(", ")),
    }
}

fn place(broken: &Broken) -> String {
    let line = broken.line.map(|line| format!(", line {line}")).unwrap_or_default();
    let seq = broken.seq.map(|seq| format!(" (seq {seq})")).unwrap_or_default();
    format!("{}{line}{seq}: {}", broken.file, broken.what)
}

fn broken_json(broken: &Broken) -> Value {
    json!({
        "file": broken.file,
        "line": broken.line,
        "seq": broken.seq,
        "what": broken.what,
    })
}

fn json(report: &ChainReport) -> Value {
    let line = |(seq, hash): &(u64, String)| format!("{}:{seq}:{hash}", report.chain);
    json!({
        "folder": report.folder,
        "writer": report.writer,
        "chain": report.chain,
        "firstKey": report.first_key,
        "lines": report.lines,
        "unsigned": report.unsigned,
        "last": report.last.as_ref().map(line),
        "proved": report.proved.as_ref().map(line),
        "told": {
            "tampered": report.told.tampered,
            "unproved": report.told.unproved,
            "lost": report.told.lost,
            "interrupted": report.told.interrupted,
            "removed": report.told.removed,
        },
        "notes": report.notes,
        "moreNotes": report.more_notes,
        "broken": report.broken.as_ref().map(broken_json),
        "unproved": report.unproved.as_ref().map(broken_json),
        "seenRemoved": report.seen_removed,
    })
}

fn seen(text: &str) -> Result<Seen, &'static str> {
    let parts: Vec<_> = text.split(':').collect();
    let rule = "a line is CHAIN:LINE:HASH, as verify prints it";
    let [chain, seq, hash] = parts[..] else { return Err(rule) };
    let seq = seq.parse().map_err(|_| rule)?;
    Ok(Seen { chain: chain.to_owned(), seq, hash: hash.to_owned() })
}
