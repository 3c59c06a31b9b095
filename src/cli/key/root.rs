//! `okmsd key rotate-root`, `enroll` and `remove-slot`: root keys.
//!
//! A new key is in its file, on the disk, before the store depends on it. Where the root key is a file, a
//! rotation goes: write FILE.new; change the store; keep the old key as FILE.old and put FILE.new in the
//! place of FILE. Whoever opens the store reads FILE and FILE.new and takes the one that the store knows,
//! so it opens wherever this is cut off. Done again, a rotation that was cut off is completed.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    cli::{
        Failure,
        act::Act,
        bootstrap,
        config_args::ConfigArguments,
        files, output,
        services::{self, Services},
    },
    config::{Config, Environment, RootKeyPlace, RootKeySource, read_private_file},
    crypto::RootKey,
    domain::Error,
    service::OtherRootKey,
};

/// Replace the root key, and the store key with it
///
/// The keys of all domains are wrapped anew; data is not touched. Where the root key is a file, its
/// content is replaced; the old key stays beside it as FILE.old, since backups of before need it. Where it
/// comes from elsewhere, --new-root-key-file says where the new one is, or is to be made.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateRoot {
    #[command(flatten)]
    config: ConfigArguments,
    /// File of the new root key, made where it is not there; you then change the configuration to it
    /// [default: the file of the present root key is replaced]
    #[arg(long, value_name = "FILE")]
    new_root_key_file: Option<PathBuf>,
    /// File of the root key in the other slot, which goes on opening the store
    #[arg(long, value_name = "FILE", conflicts_with = "drop_other_slot")]
    other_root_key_file: Option<PathBuf>,
    /// The root key in the other slot opens the store no more
    #[arg(long)]
    drop_other_slot: bool,
}

/// Let a second root key open the store, for the day when the first is lost
///
/// Keep its file apart, not beside the first.
#[derive(Debug, Args)]
pub(in crate::cli) struct Enroll {
    #[command(flatten)]
    config: ConfigArguments,
    /// File of the second root key, made where it is not there
    #[arg(long, value_name = "FILE")]
    new_root_key_file: PathBuf,
}

/// Let the root key in a slot open the store no more
///
/// Enough for a key that is lost. One that somebody else may have is worthless only after `okmsd key
/// rotate-root --drop-other-slot`, since who had it could have had the store key.
#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveSlot {
    #[command(flatten)]
    config: ConfigArguments,
    /// Number of the slot; not that of the root key that is configured here
    #[arg(value_name = "SLOT", value_parser = clap::value_parser!(u32).range(1..=2))]
    slot: u32,
}

impl RotateRoot {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let other = match &self.other_root_key_file {
            Some(file) => OtherRootKey::Keep(read(file)?),
            None if self.drop_other_slot => OtherRootKey::Drop,
            None => OtherRootKey::None,
        };
        services::with(&config, Act::new("key rotate-root"), async |services| {
            match (&self.new_root_key_file, config.root_key.place()) {
                (Some(new), place) => into_new_file(services, new, place, &other).await,
                (None, RootKeyPlace::File(file)) => in_place(services, file, &other).await,
                (None, _) => Err(Failure::usage(
                    "the root key does not come from a file that could be replaced: say with \
                     --new-root-key-file where the new one is to be",
                )),
            }
        })
    }
}

impl Enroll {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config: Config = self.config.load(environment)?;
        let file = &self.new_root_key_file;
        services::with(&config, Act::new("key enroll"), async |services| {
            let refused = |error| Failure::refused("cannot enroll the root key", &error);
            if let RootKeyPlace::File(own) = config.root_key.place()
                && is_same(file, &RootKeySource::new_file(own))
            {
                return Err(Failure::usage(format!(
                    "{} is where a rotation puts its new root key: name another file",
                    file.display()
                )));
            }
            if !file.exists() {
                services.keys.check_enrolment().await.map_err(refused)?;
            }
            let key = read_or_make(file)?;
            services.keys.enroll(&key).await.map_err(refused)?;
            services.notes.add("rootKeyId", key.id());
            output::print(&format!(
                "The root key {} in {} opens the store too. Keep it apart from the first.\n",
                key.id(),
                file.display()
            ))
        })
    }
}

impl RemoveSlot {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let act = Act::new("key remove-slot").about("slot", self.slot);
        services::with(&config, act, async |services| {
            let removed = services.keys.remove_slot(self.slot).await;
            let id = removed.map_err(|error| Failure::refused("cannot remove it", &error))?;
            services.notes.add("rootKeyId", &id);
            output::print(&format!("The root key {id} opens the store no more.\n"))
        })
    }
}

/// Replaces the root key in its file.
async fn in_place(services: &Services, file: &Path, other: &OtherRootKey) -> Result<(), Failure> {
    let (new, old) = (RootKeySource::new_file(file), old_file(file));
    let _lock = lock(file)?;
    if new.exists() && is_registered(services, &read(&new)?).await? {
        // Where both keys open the store, nothing was cut off: it is the second one, of the other slot.
        if is_registered(services, &read(file)?).await? {
            return Err(Failure::new(format!(
                "{new} holds the root key of the other slot, and is where the new one is to be: move it to \
                 another place, apart from {file}",
                new = new.display(),
                file = file.display()
            )));
        }
        files::supersede(file, &new, &old)?;
        return output::print(&format!(
            "Completed a rotation that was cut off: {} is the root key.\n",
            file.display()
        ));
    }
    if old.exists() {
        return Err(Failure::new(format!(
            "{} is there, the root key of before the last rotation: put it away first",
            old.display()
        )));
    }
    check(services, other).await?;
    let key = read_or_make(&new)?;
    rotate(services, &key, other).await?;
    files::supersede(file, &new, &old)?;
    output::print(&format!(
        "{file} is the new root key, {id}. Running servers take it by themselves where they read this \
         file.\nThe old one is {old}. Backups of before need it, and nothing else: move it to them.\n",
        file = file.display(),
        id = key.id(),
        old = old.display(),
    ))
}

/// Puts the new root key into a file that the operator names.
async fn into_new_file(
    services: &Services,
    new: &Path,
    place: RootKeyPlace<'_>,
    other: &OtherRootKey,
) -> Result<(), Failure> {
    check(services, other).await?;
    let key = read_or_make(new)?;
    rotate(services, &key, other).await?;
    let place = match place {
        RootKeyPlace::Variable => "OKMSD_ROOT_KEY".to_owned(),
        RootKeyPlace::Command => "what root_key.command prints".to_owned(),
        RootKeyPlace::Credential => "the systemd credential".to_owned(),
        RootKeyPlace::File(file) => format!("{}, or root_key.file,", file.display()),
    };
    output::print(&format!(
        "{new} is the new root key, {id}. Now change {place} to it: without it no server starts any \
         more.\nBackups of before need the old one.\n",
        new = new.display(),
        id = key.id(),
    ))
}

async fn check(services: &Services, other: &OtherRootKey) -> Result<(), Failure> {
    let possible = services.keys.check_rotation(other).await;
    possible.map_err(|error| Failure::refused("cannot replace the root key", &error))
}

async fn rotate(services: &Services, key: &RootKey, other: &OtherRootKey) -> Result<(), Failure> {
    let rotated = services.keys.rotate_root(key, other).await;
    rotated.map_err(|error| {
        let what = match error {
            // Its answer may be what was lost.
            Error::Unavailable(_) => {
                "it is not known whether the root key was replaced: keep the old one and the new one, and see \
                 okmsd key status"
            }
            _ => "cannot replace the root key",
        };
        Failure::refused(what, &error)
    })?;
    services.notes.add("rootKeyId", key.id());
    Ok(())
}

async fn is_registered(services: &Services, key: &RootKey) -> Result<bool, Failure> {
    let registered = services.keys.is_registered(key.id()).await;
    registered.map_err(|error| Failure::refused("cannot read the root keys", &error))
}

/// Reads the root key of a file. Where there is no such file, makes one with a new key.
fn read_or_make(file: &Path) -> Result<RootKey, Failure> {
    if file.symlink_metadata().is_err() {
        files::create_whole(file, &bootstrap::generate_root_key()?)?;
    }
    read(file)
}

fn read(file: &Path) -> Result<RootKey, Failure> {
    let text = read_private_file(file)?;
    RootKey::from_text(&text)
        .map_err(|_| Failure::new(format!("{} does not hold a root key", file.display())))
}

/// Keeps a second rotation away while this one changes the files.
fn lock(file: &Path) -> Result<File, Failure> {
    let what = |error: &dyn std::error::Error| {
        Failure::because(format!("cannot lock {}", file.display()), error)
    };
    let locked = File::open(file).map_err(|error| what(&error))?;
    match locked.try_lock() {
        Ok(()) => Ok(locked),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(format!("another okmsd is replacing {}", file.display())))
        }
        Err(TryLockError::Error(error)) => Err(what(&error)),
    }
}

/// Whether two names are of one place, whether there is a file or not.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |file: &Path| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(file.file_name()?))
    };
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

fn old_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}
