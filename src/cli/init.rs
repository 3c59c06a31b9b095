//! `okmsd init`: make the files of a production server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Failure, act::Act, bootstrap, config_args::FILE_NAME, files, files::FolderLock,
    listen_flags::ListenFlags, output, quote,
};
use crate::{
    clock::SystemClock,
    config::{Config, Database, Environment, Flags},
    domain::Clock,
};

/// Make the files of a production server: CA, server certificate, root key and okmsd.toml
///
/// Makes no domain and no credential, and overwrites nothing: where one of the files is there, it
/// stops. With --renew, only the server certificate is made anew.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for the files; made where it is not there
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// DNS name or IP address by which clients reach the server; can be given several times
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    listen: ListenFlags,
    /// Only make the server certificate anew, from the CA that is there
    #[arg(long, conflicts_with_all = ["region", "api_listen", "docs_listen", "operations_listen", "database"])]
    renew: bool,
    /// Region that new domains are in [default: eu]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
}

impl Arguments {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let folder = bootstrap::absolute(&self.data_dir)?;
        if self.renew {
            return renew(&folder, &self.names);
        }
        let mut config = Config::defaults(&folder);
        let flags = self.listen.flags().with("server.region", "--region", self.region.as_deref());
        // The rest of the environment of this command need not be that of the server.
        config.apply(&ListenFlags::variables(environment), &flags)?;
        files::create_folder(&folder)?;
        let _lock = FolderLock::take(&folder)?;
        let config_file = folder.join(FILE_NAME);
        refuse_to_overwrite(&config, &config_file)?;

        let act = Act::new("init").about_all("names", &self.names);
        act.recorded(&config.clone(), |_| self.make(&mut config, &folder, &config_file))?;
        output::print(&next_steps(&config, quote::path(&config_file)?)?)
    }

    fn make(&self, config: &mut Config, folder: &Path, config_file: &Path) -> Result<(), Failure> {
        let now = SystemClock.now();
        let authority = bootstrap::generate_authority(now)?;
        let server = bootstrap::issue_server_certificate(&authority, &self.names, now)?;
        let api_url = api_url(&self.names[0], config.server.api_listen.0.port());
        let named = Flags::default().with("server.api_url", "--name", Some(&api_url));
        config.apply(&Environment::OfPairs(Vec::new()), &named)?;
        let headline = "# Configuration of okmsd, made by `okmsd init`.";
        let text = bootstrap::configuration(headline, config, folder)?;
        let (tls, pki) = (&config.tls, &config.pki);
        let root_key = bootstrap::generate_root_key()?;
        files::create(config.root_key.default_file(), &root_key)?;
        files::create(&pki.ca_private_key_file, authority.private_key_pem().as_bytes())?;
        files::create(&pki.ca_certificate_file, authority.certificate_pem().as_bytes())?;
        files::create(&tls.private_key_file, server.private_key_pem.as_bytes())?;
        files::create(&tls.certificate_file, server.certificate_pem.as_bytes())?;
        files::create(config_file, text.as_bytes())
    }
}

/// Makes the server certificate anew. A running server takes it within seconds.
fn renew(folder: &Path, names: &[String]) -> Result<(), Failure> {
    let environment = Environment::OfPairs(Vec::new());
    let config = Config::load(Some(&folder.join(FILE_NAME)), &environment, &Flags::default())?;
    let _lock = FolderLock::take(folder)?;
    let act = Act::new("init").about("renew", true).about_all("names", names);
    act.recorded(&config, |_| {
        let authority = bootstrap::load_authority(&config.pki)?;
        let server = bootstrap::issue_server_certificate(&authority, names, SystemClock.now())?;
        files::replace(&config.tls.private_key_file, server.private_key_pem.as_bytes())?;
        files::replace(&config.tls.certificate_file, server.certificate_pem.as_bytes())
    })?;
    let file = quote::path(&config.tls.certificate_file)?;
    output::print(&format!("Made {file} anew. A server that runs uses it within seconds.\n"))
}

/// The address under which clients reach the server: the first of its names.
fn api_url(name: &str, port: u16) -> String {
    match name.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{name}:{port}"),
    }
}

fn refuse_to_overwrite(config: &Config, config_file: &Path) -> Result<(), Failure> {
    let mut paths = vec![
        config.root_key.default_file(),
        &config.pki.ca_private_key_file,
        &config.pki.ca_certificate_file,
        &config.tls.private_key_file,
        &config.tls.certificate_file,
        config_file,
    ];
    // A store belongs to the root key that it was made with.
    if let Database::Sqlite(path) = &config.storage.database {
        paths.push(path);
    }
    match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(Failure::new(format!(
            "{} is there already, and init overwrites nothing: choose another folder",
            path.display()
        ))),
    }
}

fn next_steps(config: &Config, config_file: &str) -> Result<String, Failure> {
    let file = quote::shell(config_file);
    Ok(format!(
        "Made {config_file} and the keys and certificates beside it.\n\n\
         Keep a copy of the root key apart from the database; without it, no secret opens:\n  \
         {root_key}\n\
         Clients must trust this certificate:\n  {ca}\n\n\
         Next:\n  \
         okmsd domain create --config {file} --name NAME\n  \
         okmsd credential create --config {file} --domain OKMS_ID --name NAME --identity URN\n  \
         okmsd serve --config {file}\n",
        root_key = quote::path(config.root_key.default_file())?,
        ca = quote::path(&config.pki.ca_certificate_file)?,
    ))
}
