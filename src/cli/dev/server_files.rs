//! Authority, server certificate and root key.

use std::path::Path;

use tracing::info;

use super::super::{Failure, act::Notes, bootstrap, certificates::Pair, files};
use crate::{
    config::{Config, Database, Pki, Tls, read_private_file},
    domain::Timestamp,
    pki::Authority,
};

/// Sees to it that authority, server certificate and root key are there and of use.
pub(super) fn ensure(
    config: &Config,
    names: &[String],
    now: Timestamp,
    notes: &Notes,
) -> Result<Authority, Failure> {
    let authority = ensure_authority(&config.pki, now, notes)?;
    ensure_server_certificate(&config.tls, &authority, names, now, notes)?;
    ensure_root_key(config, notes)?;
    Ok(authority)
}

fn ensure_authority(pki: &Pki, now: Timestamp, notes: &Notes) -> Result<Authority, Failure> {
    let (certificate, private_key) = (&pki.ca_certificate_file, &pki.ca_private_key_file);
    if certificate.exists() {
        if private_key.exists() {
            return bootstrap::load_authority(pki);
        }
        // No crash of ours leaves it so, and a new authority would make every certificate of the
        // old one useless.
        return Err(Failure::new(format!(
            "{} is there but its private key {} is not; put the key back, or remove the folder to \
             start over",
            certificate.display(),
            private_key.display()
        )));
    }
    // A key alone is one whose certificate was never written, so nobody trusts it.
    let authority = bootstrap::generate_authority(now)?;
    files::replace(private_key, authority.private_key_pem().as_bytes())?;
    files::replace(certificate, authority.certificate_pem().as_bytes())?;
    notes.add("authority", certificate.display());
    info!(path = %certificate.display(), "made an authority");
    Ok(authority)
}

fn ensure_server_certificate(
    tls: &Tls,
    authority: &Authority,
    names: &[String],
    now: Timestamp,
    notes: &Notes,
) -> Result<(), Failure> {
    if serves(tls, authority, names, now.plus_seconds(RENEWAL_SECONDS))? {
        return Ok(());
    }
    let made = bootstrap::issue_server_certificate(authority, names, now)?;
    // A crash between the two leaves a key that is not the certificate's, which the next run sees.
    files::replace(&tls.private_key_file, made.private_key_pem.as_bytes())?;
    files::replace(&tls.certificate_file, made.certificate_pem.as_bytes())?;
    notes.add("serverCertificate", tls.certificate_file.display());
    info!(path = %tls.certificate_file.display(), "made a server certificate");
    Ok(())
}

fn serves(
    tls: &Tls,
    authority: &Authority,
    names: &[String],
    at: Timestamp,
) -> Result<bool, Failure> {
    if !tls.certificate_file.exists() || !tls.private_key_file.exists() {
        return Ok(false);
    }
    let certificate = bootstrap::read(&tls.certificate_file)?;
    let private_key = read_private_file(&tls.private_key_file)?;
    let pair = Pair { certificate: &certificate, private_key: &private_key };
    Ok(pair.serves(authority.certificate_pem(), names, at))
}

fn ensure_root_key(config: &Config, notes: &Notes) -> Result<(), Failure> {
    let path: &Path = config.root_key.default_file();
    if path.exists() {
        return Ok(());
    }
    if let Database::Sqlite(database) = &config.storage.database
        && database.exists()
    {
        return Err(Failure::new(format!(
            "{} is there but the root key {} that opens it is not; put the key back, or remove the \
             database to start over",
            database.display(),
            path.display()
        )));
    }
    files::replace(path, &bootstrap::generate_root_key()?)?;
    notes.add("rootKey", path.display());
    info!(path = %path.display(), "made a root key");
    Ok(())
}

/// What ends within 30 days is made anew: a trial may well run that long without a restart.
pub(super) const RENEWAL_SECONDS: u64 = 30 * 86_400;
