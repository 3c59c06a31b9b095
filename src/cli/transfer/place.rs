//! The options that say which server is meant, and who asks it.

use std::path::PathBuf;

use clap::Args;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{
    super::{Failure, domain::okms_id},
    okms::Domain,
    remote::{Remote, TlsPaths},
};
use crate::{
    config::{Environment, read_private_line},
    domain::OkmsId,
};

/// Which server, and who asks it: with a certificate, a token or both.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Address of the server, such as https://localhost:8443 [default: $OKMS_ENDPOINT]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Id of the domain [default: $OKMS_ID]
    #[arg(long, value_name = "OKMS_ID", value_parser = okms_id)]
    okms_id: Option<OkmsId>,
    /// Authorities of the server's certificate, PEM [default: $OKMS_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The caller's certificate, PEM [default: $OKMS_CERT, unless there is a token]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM [default: $OKMS_KEY, unless there is a token]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Private file with the caller's token [default: $OKMS_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Place {
    /// A client of it, which asks nothing yet, and then as a part of that trace.
    pub(super) fn open(
        &self,
        environment: &Environment,
        trace: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Domain, Failure> {
        let url = given(self.url.clone(), "--url", environment, "OKMS_ENDPOINT")?;
        let okms_id = match self.okms_id {
            Some(id) => id,
            None => okms_id(&given(None, "--okms-id", environment, "OKMS_ID")?)
                .map_err(|why| Failure::usage(format!("OKMS_ID: {why}")))?,
        };
        let ca: PathBuf = given(file(&self.ca)?, "--ca", environment, "OKMS_CA")?.into();
        let token = token(self.token_file.as_deref(), environment, "OKMS_TOKEN")?;
        let identity = identity(
            (&self.cert, &self.key),
            environment,
            ("OKMS_CERT", "OKMS_KEY"),
            token.is_some(),
        );
        if identity.is_none() && token.is_none() {
            return Err(Failure::usage("give --cert and --key, or a token: nobody else may ask"));
        }
        let tls = TlsPaths {
            ca: &ca,
            identity: identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())),
        };
        let mut headers: Vec<_> = trace.into_iter().collect();
        if let Some(token) = token {
            headers
                .push(secret_header(AUTHORIZATION, &Zeroizing::new(format!("Bearer {}", *token)))?);
        }
        Ok(Domain { remote: Remote::new(&url, &tls, headers)?, okms_id })
    }
}

/// What an option or a variable gives.
pub(super) fn given(
    option: Option<String>,
    flag: &str,
    environment: &Environment,
    variable: &str,
) -> Result<String, Failure> {
    let found = option.or_else(|| environment.variable(variable).map(|value| value.to_string()));
    found.ok_or_else(|| Failure::usage(format!("give {flag}, or set {variable}")))
}

/// A path as text.
pub(super) fn file(path: &Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let text = path.to_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| Failure::usage(format!("{} is not UTF-8", path.display())))
}

/// A token of a private file or of a variable.
pub(super) fn token(
    file: Option<&std::path::Path>,
    environment: &Environment,
    variable: &str,
) -> Result<Option<Zeroizing<String>>, Failure> {
    match file {
        Some(file) => Ok(Some(read_private_line(file)?)),
        None => Ok(environment.variable(variable)),
    }
}

/// A certificate with its key: of the options, or else of the variables, unless a token does.
pub(super) fn identity(
    (cert, key): (&Option<PathBuf>, &Option<PathBuf>),
    environment: &Environment,
    (cert_variable, key_variable): (&str, &str),
    has_token: bool,
) -> Option<(PathBuf, PathBuf)> {
    if let (Some(cert), Some(key)) = (cert, key) {
        return Some((cert.clone(), key.clone()));
    }
    let of = |name: &str| environment.variable(name).map(|value| PathBuf::from(value.as_str()));
    of(cert_variable).zip(of(key_variable)).filter(|_| !has_token)
}

/// A header that is never shown.
pub(super) fn secret_header(
    name: HeaderName,
    value: &str,
) -> Result<(HeaderName, HeaderValue), Failure> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Failure::new("the token has letters that no token has"))?;
    value.set_sensitive(true);
    Ok((name, value))
}
