//! `okmsd backup verify FILE`.

use std::{fs, path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{content_json, counts, progress::Progress, secret::SecretArguments};
use crate::{
    audit::{self, ChainReport, Seen},
    cli::{
        Failure,
        config_args::ConfigArguments,
        files,
        output::{self, Format},
        services,
        undo::OnSignal,
    },
    clock::SystemClock,
    config::Environment,
    domain::Error,
    service::{Backups, VerifiedBackup},
};

/// Check that a backup opens, restores and is whole
///
/// It is restored into a private folder below $TMPDIR, which takes as much room as the store, and is removed
/// afterwards; what is sealed stays sealed there. All rows are verified and the current data of all secrets is
/// opened; none is shown. Ends with 1 where anything is wrong.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    secret: SecretArguments,
    /// Folder of the audit log, or of a copy: it must be whole and have the lines that the backup tells of
    #[arg(long, value_name = "FOLDER")]
    audit: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File of the backup, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Verify {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.secret.load(&self.config, environment)?;
        let secret = self.secret.read(&config)?;
        let mut backup = super::open(&self.file)?;
        let scratch = Scratch::make()?;
        let progress = Progress::new();
        let verified = services::block_on(async {
            let clock = Arc::new(SystemClock);
            let rows = |rows| progress.rows(rows);
            let verified = Backups::verify(&mut backup, &secret, &scratch.0, clock, &rows).await;
            verified.map_err(|error| {
                let (file, folder) = (self.file.display(), scratch.0.display());
                let what = match &error {
                    // Nothing that is wrong with a backup is told so.
                    Error::Unavailable(_) => {
                        format!("{file} was not verified, the check could not be made in {folder}")
                    }
                    _ => format!("{file} does not verify"),
                };
                Failure::refused(what, &error)
            })
        });
        drop(progress);
        let verified = verified?;
        let lines = match &self.audit {
            None => Lines::default(),
            Some(folder) => {
                let reports = audit::verify(folder, &verified.content.audit);
                let reports = reports.map_err(|error| {
                    Failure::because(format!("cannot verify {}", folder.display()), &error)
                })?;
                Lines::compare(&verified.content.audit, &reports)
            }
        };
        output::answer(
            self.format,
            || text(&verified, &lines),
            || {
                json!({
                    "content": content_json(&verified.content),
                    "secrets": verified.secrets,
                    "versions": verified.versions,
                    "opened": verified.opened,
                    "tokens": verified.tokens,
                    "damage": verified.damage,
                    "moreDamage": verified.more_damage,
                    "auditFound": lines.found,
                    "auditRemoved": lines.removed,
                    "auditBroken": lines.broken,
                })
            },
        )?;
        match (verified.damage.len(), lines.broken.first()) {
            (0, None) => Ok(()),
            (0, Some(broken)) => Err(Failure::new(format!("the audit log: {broken}"))),
            (some, _) => Err(Failure::new(format!(
                "{} things in the backup are not whole: the store had them so, or somebody made the backup who has \
                 its key",
                some as u64 + verified.more_damage
            ))),
        }
    }
}

/// What an audit log has of the lines that a backup tells of.
#[derive(Default)]
struct Lines {
    found: usize,
    /// Those that went with files that were removed by age.
    removed: Vec<String>,
    broken: Vec<String>,
}

impl Lines {
    fn compare(seen: &[Seen], reports: &[ChainReport]) -> Self {
        let mut lines = Self::default();
        for report in reports {
            if let Some(broken) = &report.broken {
                lines.broken.push(format!("{} is broken: {}", broken.file, broken.what));
            }
        }
        for seen in seen {
            let name = format!("{}:{}", seen.chain, seen.seq);
            match reports.iter().find(|report| report.chain == seen.chain) {
                None => lines.broken.push(format!("the chain of line {name} is missing")),
                Some(report) if report.seen_removed.contains(&seen.seq) => lines.removed.push(name),
                Some(_) => lines.found += 1,
            }
        }
        lines
    }
}

fn text(verified: &VerifiedBackup, lines: &Lines) -> String {
    let content = &verified.content;
    let mut text = format!(
        "Made at {} by okmsd {}, schema {}: {}\n\
         Verified {} secrets, {} versions and {} tokens; opened the data of {} versions.\n",
        content.created_at.to_rfc3339_seconds(),
        content.program,
        content.schema,
        counts(content),
        verified.secrets,
        verified.versions,
        verified.tokens,
        verified.opened
    );
    let found = format!("{} lines of the audit log were found as they were", lines.found);
    let more = format!("{} things more are not whole", verified.more_damage);
    let removed =
        lines.removed.iter().map(|line| format!("line {line} of the audit log was removed by age"));
    let notes = (lines.found > 0).then_some(found).into_iter().chain(removed);
    let notes = notes.chain(verified.damage.iter().map(|damage| format!("NOT WHOLE: {damage}")));
    let notes = notes.chain((verified.more_damage > 0).then_some(more));
    let broken = lines.broken.iter().map(|broken| format!("AUDIT LOG: {broken}"));
    notes.chain(broken).for_each(|note| text.push_str(&format!("  {note}\n")));
    text
}

/// A private folder that is removed.
struct Scratch(PathBuf, #[expect(dead_code, reason = "removes it at a signal")] OnSignal);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let name = format!("okmsd-verify-{}", Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        let left = folder.clone();
        let removed = OnSignal::run(move || _ = fs::remove_dir_all(left));
        files::create_folder(&folder)?;
        Ok(Self(folder, removed))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a folder was not removed");
        }
    }
}
