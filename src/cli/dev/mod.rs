//! `okmsd dev`: make all that a trial needs, then serve.
//!
//! Steps 1 and 2 are one act in the audit log, which tells what was made. Made again and again, so each step first looks whether an earlier run has done it, and a run that
//! ends anywhere leaves something that the next one completes:
//!
//! 1. authority, server certificate and root key: each a file that is whole or absent, a key before
//!    its certificate, the root key before the store that needs it;
//! 2. domain and credential in the store, then the credential's files, its certificate last. A
//!    credential without files is one whose key nobody has; the next run makes another;
//! 3. the listeners, since the files of step 4 tell their ports;
//! 4. `okmsd.toml`, `okms.yaml` and, last, `dev.env`: where it is there, the server answers.
//!
//! | file | what it owns |
//! |---|---|
//! | `server_files` | step 1 |
//! | `access` | step 2 |
//! | `handout` | step 4 |
//! | `guide` | what a person is told |

mod access;
mod guide;
mod handout;
mod server_files;

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;

use self::{access::Access, handout::Handout};
use super::{
    Failure,
    act::{Act, Notes},
    bootstrap,
    config_args::{DEV_FOLDER, FILE_NAME},
    files::{self, FolderLock},
    listen_flags::{ListenFlags, LogFlags},
    output,
    serve::{self, OnHangup},
    services,
};
use crate::{
    clock::SystemClock,
    config::{Config, Environment, OperationsListen},
    domain::Clock,
    pki::Authority,
    store::IfAbsent,
    telemetry,
};

/// Make all that a trial needs, then serve
///
/// Makes under one folder: a CA, a server certificate for localhost, a root key, a store, a domain,
/// a credential of the root account (PEM and PKCS#12), configurations for okmsd and the okms CLI,
/// and dev.env with all their places for a shell. What is there already is kept. Then serves and
/// says what can be done next.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for everything that is made [env: OKMSD_DATA_DIR] [default: certs/dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    log: LogFlags,
}

impl Arguments {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let folder = self.data_dir.unwrap_or_else(|| {
            let variable = environment.variable(FOLDER_VARIABLE);
            PathBuf::from(variable.as_ref().map_or(DEV_FOLDER, |path| path.as_str()))
        });
        let folder = bootstrap::absolute(&folder)?;
        let flags = self.log.add_to(self.listen.flags());
        let mut defaults = Config::defaults(&folder);
        // Nobody's monitoring knows a trial, which may run beside a server or another trial.
        defaults.server.operations_listen =
            OperationsListen(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
        let mut config = defaults.clone();
        config.apply(environment, &flags)?;
        // A trial has keys and certificates of its own; those that the environment may name for
        // another server are not to be used, let alone replaced.
        config.tls = defaults.tls;
        config.pki = defaults.pki;
        config.root_key = defaults.root_key;
        telemetry::start(&config.log).map_err(|error| Failure::because("log", &error))?;

        files::create_folder(&folder)?;
        let _lock = FolderLock::take(&folder)?;
        // Whoever waits for this file waits for this run, not for the last one.
        remove(&folder.join(handout::ENVIRONMENT_FILE))?;
        let access = Act::new("dev").recorded(&config, |notes| {
            let (names, now) = (server_names(&config), SystemClock.now());
            let authority = server_files::ensure(&config, &names, now, notes)?;
            ensure_access(&config, &folder, &authority, notes)
        })?;
        services::block_on(run(config, &folder, access))
    }
}

async fn run(mut config: Config, folder: &Path, access: Access) -> Result<(), Failure> {
    let server = serve::Server::start(&config).await?;
    config.server.api_listen.0 = server.api_address();
    config.server.docs_listen.0 = server.docs_address();

    let handout = Handout {
        api_url: server.api_url().to_owned(),
        docs_url: server.docs_address().map(serve::origin),
        operations_address: server.operations_address(),
        ca: config.pki.ca_certificate_file.clone(),
        access,
    };
    let headline = "# Written anew by each run of `okmsd dev`; to change settings, copy this file.";
    let text = bootstrap::configuration(headline, &config, folder)?;
    files::replace(&folder.join(FILE_NAME), text.as_bytes())?;
    files::replace(&folder.join(handout::OKMS_FILE), handout.okms_yaml()?.as_bytes())?;
    let environment = folder.join(handout::ENVIRONMENT_FILE);
    files::replace(&environment, handout.environment()?.as_bytes())?;
    output::print(&guide::text(&handout, folder)?)?;
    server.run(OnHangup::End).await
}

fn ensure_access(
    config: &Config,
    folder: &Path,
    authority: &Authority,
    notes: &Notes,
) -> Result<Access, Failure> {
    let region = config.server.region.as_str();
    services::within(config, notes, IfAbsent::Make, async |services| {
        access::ensure(services, folder, authority, region, SystemClock.now()).await
    })
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::because(format!("cannot remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// The names that the server certificate must have: those of the machine for itself, and the
/// addresses that the listeners have beyond that.
fn server_names(config: &Config) -> Vec<String> {
    let mut names = vec![serve::LOCALHOST.to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let listeners = [Some(config.server.api_listen.0), config.server.docs_listen.0];
    for address in listeners.into_iter().flatten().map(|listener| listener.ip()) {
        let name = address.to_string();
        if !serve::is_localhost(address) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What names the folder of a trial in the environment.
pub(super) const FOLDER_VARIABLE: &str = "OKMSD_DATA_DIR";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    #[test]
    fn the_certificate_names_every_address_of_the_listeners() {
        let mut config = Config::defaults(Path::new(""));
        let own = ["localhost", "127.0.0.1", "::1"];
        assert_eq!(server_names(&config), own);
        let flags = Flags::default().with("server.api_listen", "", Some("192.0.2.7:0")).with(
            "server.docs_listen",
            "",
            Some("192.0.2.7:1"),
        );
        config.apply(&Environment::OfPairs(Vec::new()), &flags).unwrap();
        assert_eq!(server_names(&config), [&own[..], &["192.0.2.7"]].concat());
    }
}
