//! What a request does to a secret.
//!
//! Each function takes a snapshot of the secret, read under lock, and says what is to be written,
//! or why nothing is. None of them does anything itself, so storage may ask again after a conflict.

use super::{
    Argument, Error, MAX_VERSION, MetadataPatch, NewVersion, Secret, SecretChange, SecretConfig,
    SecretPath, SecretSnapshot, Timestamp, Version, VersionId, VersionState,
};

/// Makes a secret with its first version.
///
/// There is no check-and-set: that no secret may be there yet *is* the check, also where the domain
/// requires one.
///
/// # Errors
///
/// [`Error::SecretExists`].
pub fn create(
    snapshot: &SecretSnapshot,
    path: &SecretPath,
    metadata: &MetadataPatch,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    if snapshot.secret.is_some() {
        return Err(Error::SecretExists);
    }
    let mut secret = Secret {
        path: path.clone(),
        config: SecretConfig::default().patched(&metadata.config),
        custom_metadata: metadata.custom_metadata.clone().unwrap_or_default(),
        current_version: 0,
        oldest_version: 0,
        created_at: now,
        updated_at: now,
    };
    let version = next_version(&mut secret, &snapshot.domain_config, now)?;
    Ok(SecretChange::Insert { secret, version: Some(version) })
}

/// Writes metadata, a new version, or both as one.
///
/// New settings count at once: for the check-and-set of this very request, for the lifetime of the
/// version it writes and for the pruning it causes.
///
/// # Errors
///
/// [`Error::SecretNotFound`], [`Argument::CheckAndSet`], [`Argument::VersionsExhausted`].
pub fn update(
    snapshot: &SecretSnapshot,
    cas: Option<u32>,
    metadata: &MetadataPatch,
    writes_data: bool,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    let mut secret = snapshot.secret.clone().ok_or(Error::SecretNotFound)?;
    secret.config = secret.config.patched(&metadata.config);
    if let Some(custom_metadata) = &metadata.custom_metadata {
        secret.custom_metadata = custom_metadata.clone();
    }
    check_and_set(&secret, &snapshot.domain_config, cas)?;
    secret.updated_at = now;
    if !writes_data {
        return Ok(SecretChange::Update { secret, version: None, prune_through: None });
    }
    let version = next_version(&mut secret, &snapshot.domain_config, now)?;
    let prune_through = prune(&mut secret, &snapshot.domain_config);
    Ok(SecretChange::Update { secret, version: Some(version), prune_through })
}

/// Brings the version of the snapshot into another state.
///
/// An active version may be deactivated or deleted, a deactivated one activated or deleted; deleted
/// is final. Activating again gives the version its whole lifetime anew.
///
/// # Errors
///
/// [`Error::SecretNotFound`], [`Error::VersionNotFound`], [`Argument::State`].
pub fn set_version_state(
    snapshot: &SecretSnapshot,
    state: VersionState,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    let secret = snapshot.secret.as_ref().ok_or(Error::SecretNotFound)?;
    let version = snapshot.version.clone().ok_or(Error::VersionNotFound)?;
    let present = version.state(now);
    if present == state {
        return Ok(SecretChange::KeepVersion(version));
    }
    if present == VersionState::Deleted {
        return Err(Error::argument(Argument::State, "a deleted version stays deleted"));
    }
    let closed_at = match present {
        VersionState::Deactivated => version.deactivated_at,
        _ => Some(now),
    };
    Ok(SecretChange::SetVersion(match state {
        VersionState::Active => Version {
            deactivated_at: closing_time(secret, &snapshot.domain_config, now),
            ..version
        },
        VersionState::Deactivated => Version { deactivated_at: closed_at, ..version },
        VersionState::Deleted => Version { deactivated_at: closed_at, deleted: true, ..version },
    }))
}

/// What a caller should know about settings that were stored and do not have the effect that they
/// seem to have.
pub fn warnings(metadata: &MetadataPatch, domain_config: &SecretConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if metadata.config.cas_required == Some(false) && domain_config.cas_required {
        warnings.push(
            "casRequired is stored as false, but the domain requires cas: it stays required"
                .to_owned(),
        );
    }
    warnings
}

/// A `cas` that is given is always compared; one that is missing is refused where it is required.
fn check_and_set(secret: &Secret, domain: &SecretConfig, cas: Option<u32>) -> Result<(), Error> {
    let refuse = |text: &str| Err(Error::argument(Argument::CheckAndSet, text));
    match cas {
        Some(cas) if cas != secret.current_version => {
            refuse("cas: the check-and-set parameter did not match the current version")
        }
        None if secret.config.effective(domain).cas_required => {
            refuse("cas: the check-and-set parameter is required for this call")
        }
        _ => Ok(()),
    }
}

fn next_version(
    secret: &mut Secret,
    domain: &SecretConfig,
    now: Timestamp,
) -> Result<NewVersion, Error> {
    if secret.current_version >= MAX_VERSION {
        return Err(Error::argument(
            Argument::VersionsExhausted,
            "the secret has used all its 24000 versions; create it anew under another path",
        ));
    }
    let id = VersionId::new(secret.current_version + 1)?;
    secret.current_version = id.get();
    Ok(NewVersion { id, created_at: now, deactivated_at: closing_time(secret, domain, now) })
}

/// Versions are numbered without gaps and only the oldest ever go, so the number of those kept
/// follows from the highest number alone.
fn prune(secret: &mut Secret, domain: &SecretConfig) -> Option<VersionId> {
    let keep = secret.config.effective(domain).max_versions;
    let last_gone = secret.current_version.checked_sub(keep)?;
    let oldest = last_gone + 1;
    if last_gone == 0 || oldest <= secret.oldest_version {
        return None;
    }
    secret.oldest_version = oldest;
    VersionId::new(last_gone).ok()
}

fn closing_time(secret: &Secret, domain: &SecretConfig, now: Timestamp) -> Option<Timestamp> {
    let lifetime = secret.config.effective(domain).deactivate_version_after?;
    Some(now.plus_seconds(lifetime))
}

#[cfg(test)]
mod tests;
