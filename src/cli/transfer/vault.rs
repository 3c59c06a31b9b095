//! A KV version 2 engine of a Vault or an OpenBao, which is read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    super::{Failure, output},
    closed::Opener,
    effect::KvDefaults,
    place::{file, given, identity, secret_header, token},
    remote::{Remote, TlsPaths},
    walk::{Walk, encoded, forbidden},
    words::{Content, Settings, SourceSecret},
};
use crate::config::Environment;

/// Which engine, and who asks: with a token, or with a certificate that logs in by auth/cert.
#[derive(Debug, Args)]
pub(super) struct VaultPlace {
    /// Address of the Vault or OpenBao [default: $VAULT_ADDR]
    #[arg(long, value_name = "URL")]
    vault_url: Option<String>,
    /// Authorities of its certificate, PEM [default: $VAULT_CACERT]
    #[arg(long, value_name = "FILE")]
    vault_ca: Option<PathBuf>,
    /// Private file with the token that reads [default: $VAULT_TOKEN]
    #[arg(long, value_name = "FILE")]
    vault_token_file: Option<PathBuf>,
    /// The client's certificate, PEM [default: $VAULT_CLIENT_CERT]
    #[arg(long, value_name = "FILE", requires = "vault_key")]
    vault_cert: Option<PathBuf>,
    /// Its private key, PEM [default: $VAULT_CLIENT_KEY]
    #[arg(long, value_name = "FILE", requires = "vault_cert")]
    vault_key: Option<PathBuf>,
    /// Namespace of the engine [default: $VAULT_NAMESPACE]
    #[arg(long, value_name = "NAME")]
    vault_namespace: Option<String>,
    /// Where the engine is mounted
    #[arg(long, value_name = "PATH", default_value = "secret")]
    mount: String,
}

/// The engine, while it is read.
pub(super) struct Vault {
    remote: Remote,
    /// Such as `/v1/secret`.
    mount: String,
    walk: Walk,
    /// Tells this engine from any other.
    id: String,
    has_token: bool,
    has_logged_in: bool,
    /// The settings of the engine; none where the token may not read them.
    defaults: Option<KvDefaults>,
    /// How many secrets were given.
    found: u64,
    /// The secret that was given last, and which of its versions are destroyed.
    path: String,
    destroyed: BTreeMap<u32, bool>,
    opener: Option<Opener>,
}

impl VaultPlace {
    /// A reader of the secret at `path` and all below it, or of everything; it asks nothing yet, and then as a part
    /// of that trace.
    pub(super) fn open(
        &self,
        environment: &Environment,
        trace: Option<(HeaderName, HeaderValue)>,
        path: &str,
    ) -> Result<Vault, Failure> {
        let url = given(self.vault_url.clone(), "--vault-url", environment, "VAULT_ADDR")?;
        let ca = given(file(&self.vault_ca)?, "--vault-ca", environment, "VAULT_CACERT")?;
        let token = token(self.vault_token_file.as_deref(), environment, "VAULT_TOKEN")?;
        let variables = ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY");
        let identity = identity((&self.vault_cert, &self.vault_key), environment, variables, false);
        if token.is_none() && identity.is_none() {
            return Err(Failure::usage(
                "give --vault-token-file, or set VAULT_TOKEN, or give a certificate",
            ));
        }
        let namespace = self.vault_namespace.clone();
        let namespace = namespace
            .or_else(|| environment.variable("VAULT_NAMESPACE").map(|value| value.to_string()));
        let mut headers = vec![(VAULT_REQUEST, HeaderValue::from_static("true"))];
        if let Some(namespace) = &namespace {
            let value = HeaderValue::from_str(namespace)
                .map_err(|_| Failure::usage("the namespace has letters that none has"))?;
            headers.push((VAULT_NAMESPACE, value));
        }
        headers.extend(trace);
        if let Some(token) = &token {
            headers.push(secret_header(VAULT_TOKEN, token)?);
        }
        let ca = PathBuf::from(ca);
        let tls = TlsPaths {
            ca: &ca,
            identity: identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())),
        };
        let remote = Remote::new(&url, &tls, headers)?;
        let mount = format!("/v1/{}", encoded(self.mount.trim_matches('/')));
        Ok(Vault {
            id: format!("{remote} {} {mount}", namespace.unwrap_or_default()),
            walk: Walk::new(&mount, path, String::new()),
            remote,
            mount,
            has_token: token.is_some(),
            has_logged_in: false,
            defaults: None,
            found: 0,
            path: String::new(),
            destroyed: BTreeMap::new(),
            opener: None,
        })
    }
}

impl Vault {
    /// Tells this engine from any other.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Opens deleted versions from now on, with a note in this file.
    pub(super) fn open_deleted(&mut self, note: &Path) -> Result<(), Failure> {
        self.opener = Some(Opener::new(note, &self.id, &self.mount)?);
        Ok(())
    }

    /// Whether deleted versions are opened.
    pub(super) const fn opens_deleted(&self) -> bool {
        self.opener.is_some()
    }

    /// Logs in where there is no token, and checks that the engine is one that can be read.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        if !self.has_token {
            self.log_in().await?;
        }
        #[derive(Deserialize)]
        struct Mount {
            data: MountData,
        }
        #[derive(Deserialize)]
        struct MountData {
            r#type: String,
            options: Option<BTreeMap<String, String>>,
        }
        let name = self.mount.trim_start_matches("/v1/");
        let address = format!("/v1/sys/internal/ui/mounts/{name}");
        let answer = self.remote.get(&address, &[]).await?;
        let what = format!("cannot see an engine at {name}");
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected(&what));
        }
        let Mount { data } = answer.parse(&what)?;
        let version = data.options.as_ref().and_then(|options| options.get("version"));
        if data.r#type != "kv" || version.map(String::as_str) != Some("2") {
            return Err(Failure::new(format!("the engine at {name} is not KV version 2")));
        }
        self.defaults = self.read_defaults().await?;
        match &mut self.opener {
            Some(opener) => opener.settle(&mut self.remote).await,
            None => Ok(()),
        }
    }

    async fn read_defaults(&mut self) -> Result<Option<KvDefaults>, Failure> {
        #[derive(Deserialize)]
        struct Config {
            data: KvDefaults,
        }
        let address = format!("{}/config", self.mount);
        let answer = self.remote.get(&address, &[]).await?;
        let what = "cannot read the settings of the engine";
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => {
                output::tell(&format!("{what}: {}", forbidden(&answer, "read", &address)));
                return Ok(None);
            }
            _ => return Err(answer.unexpected(what)),
        }
        let Config { data } = answer.parse(what)?;
        Ok(Some(data))
    }

    async fn log_in(&mut self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Login {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: String,
        }
        let body = Zeroizing::new(b"{}".to_vec());
        let answer = self.remote.send_json(Method::PUT, "/v1/auth/cert/login", body).await?;
        let what = "cannot log in with the certificate";
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected(what));
        }
        let Login { auth } = answer.parse(what)?;
        let token = Zeroizing::new(auth.client_token);
        self.remote.show(secret_header(VAULT_TOKEN, &token)?);
        self.has_logged_in = true;
        Ok(())
    }

    /// Gives back what is no longer needed: the note, and the token of the login.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        self.opener = None;
        if !self.has_logged_in {
            return Ok(());
        }
        let body = Zeroizing::new(b"{}".to_vec());
        let answer = self.remote.send_json(Method::PUT, "/v1/auth/token/revoke-self", body).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(answer.unexpected("cannot revoke the token of the login")),
        }
    }

    /// The next secret.
    pub(super) async fn next_secret(&mut self) -> Result<Option<SourceSecret>, Failure> {
        while let Some(path) = self.walk.next(&mut self.remote).await? {
            match self.secret(&path).await? {
                Ok(Some(secret)) => {
                    self.path = path;
                    self.found += 1;
                    return Ok(Some(secret));
                }
                Ok(None) => {}
                Err(why) => self.walk.refuse(&path, why)?,
            }
        }
        self.walk.end(self.found)?;
        Ok(None)
    }

    /// The inner error is that the token may not.
    async fn secret(
        &mut self,
        path: &str,
    ) -> Result<Result<Option<SourceSecret>, Failure>, Failure> {
        #[derive(Deserialize)]
        struct Secret {
            data: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            cas_required: bool,
            max_versions: u32,
            delete_version_after: String,
            custom_metadata: Option<BTreeMap<String, String>>,
            current_version: u32,
            versions: BTreeMap<u32, Version>,
            /// Only a server like this one says it.
            urn: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Version {
            destroyed: bool,
        }
        let address = format!("{}/metadata/{}", self.mount, encoded(path));
        let answer = self.remote.get(&address, &[]).await?;
        let what = format!("cannot read the metadata of {path}");
        match answer.status {
            StatusCode::OK => {}
            // Deleted meanwhile, or none but those below it.
            StatusCode::NOT_FOUND => return Ok(Ok(None)),
            StatusCode::FORBIDDEN => return Ok(Err(forbidden(&answer, "read", &address))),
            _ => return Err(answer.unexpected(&what)),
        }
        let Secret { data } = answer.parse(&what)?;
        let versions = data.versions.iter();
        self.destroyed = versions.map(|(id, version)| (*id, version.destroyed)).collect();
        let first = self.destroyed.keys().next().copied();
        let metadata = Settings {
            cas_required: data.cas_required,
            max_versions: data.max_versions,
            deactivate_version_after: data.delete_version_after,
            custom_metadata: data.custom_metadata.unwrap_or_default(),
        };
        let is_okms = data.urn.is_some();
        let effect = self.defaults.as_ref().map(|defaults| defaults.effect(&metadata, is_okms));
        Ok(Ok(Some(SourceSecret {
            path: path.to_owned(),
            metadata,
            effect,
            current_version: data.current_version,
            first_version: first.unwrap_or(data.current_version),
            created_at: None,
            updated_at: None,
        })))
    }

    /// A version of the secret that was given last. Whether it is deleted the engine says, by its own clock.
    pub(super) async fn version(&mut self, number: u32) -> Result<Content, Failure> {
        if self.destroyed.get(&number).copied().unwrap_or(true) {
            return Ok(Content::Deleted);
        }
        let content = read_data(&mut self.remote, &self.mount, &self.path, number).await?;
        match &mut self.opener {
            Some(opener) if matches!(content, Content::Deactivated(_)) => {
                opener.read(&mut self.remote, &self.path, number).await
            }
            _ => Ok(content),
        }
    }
}

/// The data of a version of a KV2 engine.
pub(super) async fn read_data(
    remote: &mut Remote,
    mount: &str,
    path: &str,
    number: u32,
) -> Result<Content, Failure> {
    #[derive(Deserialize)]
    struct Version<'a> {
        #[serde(borrow)]
        data: VersionData<'a>,
    }
    #[derive(Deserialize)]
    struct VersionData<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let address = format!("{mount}/data/{}?version={number}", encoded(path));
    let answer = remote.get(&address, &[]).await?;
    let what = format!("cannot read version {number} of {path}");
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(Content::Deactivated(None)),
        StatusCode::FORBIDDEN => return Err(forbidden(&answer, "read", &address)),
        _ => return Err(answer.unexpected(&what)),
    }
    let Version { data: VersionData { data } } = answer.parse(&what)?;
    let none = || Content::Refused("data must be a JSON object, not null".to_owned());
    Ok(data.map_or_else(none, Content::of))
}

const VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Servers refuse requests without it that a browser might have been led to send.
const VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
