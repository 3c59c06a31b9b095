//! The key or passphrase that is meant.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::{
    cli::{Failure, config_args::ConfigArguments, undo::OnSignal},
    config::{BackupSecretText, Config, Environment, Flags},
    crypto::BackupSecret,
};

/// What a backup is sealed with [default: what the section `backup` of the configuration names]
#[derive(Debug, Args)]
pub(super) struct SecretArguments {
    /// Private file of the backup key, base64 of 32 bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase_file", "ask_passphrase"])]
    backup_key_file: Option<PathBuf>,
    /// Private file of a passphrase, instead of a key
    #[arg(long, value_name = "FILE", conflicts_with = "ask_passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Ask for a passphrase on the terminal
    #[arg(long)]
    ask_passphrase: bool,
}

impl SecretArguments {
    /// Reads the configuration, over which these count.
    pub(super) fn load(
        &self,
        config: &ConfigArguments,
        environment: &Environment,
    ) -> Result<Config, Failure> {
        let (key, passphrase) = (text(&self.backup_key_file)?, text(&self.passphrase_file)?);
        let flags = Flags::default().with("backup.key_file", "--backup-key-file", key).with(
            "backup.passphrase_file",
            "--passphrase-file",
            passphrase,
        );
        config.load_with(environment, &flags)
    }

    /// The secret of a backup that is there.
    pub(super) fn read(&self, config: &Config) -> Result<BackupSecret, Failure> {
        if self.ask_passphrase {
            return passphrase(ask("Passphrase of the backup: ")?);
        }
        configured_secret(config)?.ok_or_else(|| {
            Failure::usage(
                "no backup key and no passphrase is named: see --backup-key-file, \
                 --passphrase-file, --ask-passphrase, or the section backup of the configuration",
            )
        })
    }

    /// The secret of a backup that is to be made: a passphrase that is typed, is typed twice.
    pub(super) fn read_new(&self, config: &Config) -> Result<BackupSecret, Failure> {
        if self.ask_passphrase {
            let first = ask("Passphrase for the backup: ")?;
            if ask("Once more: ")? != first {
                return Err(Failure::new("these are two different passphrases"));
            }
            return passphrase(first);
        }
        self.read(config)
    }
}

/// The secret that a configuration names; none where it names none.
pub(in crate::cli) fn configured_secret(config: &Config) -> Result<Option<BackupSecret>, Failure> {
    match config.backup.read()? {
        Some(BackupSecretText::Key(text)) => BackupSecret::from_key_text(&text)
            .map(Some)
            .map_err(|_| Failure::new("the backup key is not base64 of 32 bytes")),
        Some(BackupSecretText::Passphrase(text)) => passphrase(text).map(Some),
        None => Ok(None),
    }
}

fn passphrase(text: Zeroizing<String>) -> Result<BackupSecret, Failure> {
    BackupSecret::from_passphrase(text).map_err(|_| {
        let least = BackupSecret::MIN_PASSPHRASE;
        Failure::new(format!("a passphrase must have at least {least} characters"))
    })
}

fn text(path: &Option<PathBuf>) -> Result<Option<&str>, Failure> {
    let unfit = || Failure::usage("the path of a file must be UTF-8");
    path.as_deref().map(|path| path.to_str().ok_or_else(unfit)).transpose()
}

/// Asks on the terminal, whatever standard input is, without showing what is typed.
fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::because("cannot ask on the terminal", &error);
    let mut terminal =
        OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let (echoing, left) = (before.clone(), terminal.try_clone().map_err(failed)?);
    let _shown = OnSignal::run(move || _ = tcsetattr(&left, OptionalActions::Now, &echoing));
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let line = terminal.write_all(question.as_bytes()).and_then(|()| read_line(&mut terminal));
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let line = line.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    terminal.write_all(b"\n").map_err(failed)?;
    Ok(line)
}

/// Reads a line byte by byte into a buffer that does not move: a growing one would leave unwiped copies behind.
fn read_line(terminal: &mut File) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut byte = Zeroizing::new([0]);
    while terminal.read(&mut byte[..])? > 0 && byte[0] != b'\n' {
        if line.len() == MAX_LINE {
            return Err(io::Error::other("the passphrase is too long"));
        }
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line);
    let text = text.map_err(|_| io::Error::other("the passphrase is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Bytes of a line that a terminal takes at most.
const MAX_LINE: usize = 4_096;
