//! `okmsd policy apply`: policies from a file into the store.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    output::{self, Format},
    services,
};
use crate::{config::Environment, service::AppliedPolicy, store::Applied};

/// Policies from a file.
#[derive(Debug, Args)]
pub(in crate::cli) struct Apply {
    #[command(flatten)]
    config: ConfigArguments,
    /// JSON file of one policy document, or of an array of them; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Apply {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let text = read(&self.file)?;
        let act = Act::new("policy apply").about("file", self.file.display());
        let applied = services::with(&config, act, async |services| {
            let applied = services.policies.apply(&text).await;
            let applied =
                applied.map_err(|error| Failure::refused("nothing is applied", &error))?;
            services.notes.add_all("policies", applied.iter().map(|policy| &policy.name));
            Ok(applied)
        })?;
        for policy in &applied {
            for warning in &policy.warnings {
                output::complain(&format!("warning: {}: {warning}", policy.name));
            }
        }
        let text = || applied.iter().map(line).collect();
        output::answer(self.format, text, || applied.iter().map(json).collect())
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let what =
        if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let cannot = |error: io::Error| Failure::because(format!("cannot read {what}"), &error);
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(cannot)?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(format!("{what} has more than 16 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{what} is not UTF-8")))
}

const fn word(applied: Applied) -> &'static str {
    match applied {
        Applied::Created => "created",
        Applied::Replaced => "replaced",
        Applied::Unchanged => "unchanged",
    }
}

fn line(policy: &AppliedPolicy) -> String {
    format!("{}: {}\n", policy.name, word(policy.applied))
}

fn json(policy: &AppliedPolicy) -> Value {
    json!({
        "name": policy.name,
        "applied": word(policy.applied),
        "warnings": policy.warnings,
    })
}

/// A file of hundreds of documents of the largest size; `/dev/zero` is larger.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
