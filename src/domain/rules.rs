//! What a request does to a secret.
//!
//! Each function takes a snapshot of the secret, read under lock, and says what is to be written,
//! or why nothing is. None of them does anything itself, so storage may ask again after a conflict.

use super::{
    Argument, ClosedVersion, CustomMetadataPatch, Error, MAX_VERSION, MetadataPatch, NewVersion,
    Secret, SecretChange, SecretConfig, SecretConfigPatch, SecretPath, SecretSnapshot, Timestamp,
    Version, VersionId, VersionState,
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
    let mut secret = new_secret(path, metadata, now);
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
    let secret = snapshot.secret.as_ref().ok_or(Error::SecretNotFound)?;
    let mut secret = patched(secret, metadata);
    check_and_set(&secret, &snapshot.domain_config, cas)?;
    secret.updated_at = touched(&secret, now);
    if !writes_data {
        return Ok(SecretChange::Update { secret, version: None, prune_through: None });
    }
    let version = next_version(&mut secret, &snapshot.domain_config, now)?;
    let prune_through = prune(&mut secret, &snapshot.domain_config);
    Ok(SecretChange::Update { secret, version: Some(version), prune_through })
}

/// Writes a version as KV2 does: whether there is a secret at the path yet or not.
///
/// Unlike [`create`], the first version needs a check-and-set of 0 where one is required.
///
/// # Errors
///
/// See [`update`]; but there is no secret that must exist.
pub fn put(
    snapshot: &SecretSnapshot,
    path: &SecretPath,
    cas: Option<u32>,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    if snapshot.secret.is_some() {
        return update(snapshot, cas, &MetadataPatch::default(), true, now);
    }
    let mut secret = new_secret(path, &MetadataPatch::default(), now);
    check_and_set(&secret, &snapshot.domain_config, cas)?;
    let version = next_version(&mut secret, &snapshot.domain_config, now)?;
    Ok(SecretChange::Insert { secret, version: Some(version) })
}

/// Writes a version that is made of the current one, which has to be open for that.
///
/// # Errors
///
/// See [`update`]; [`Error::VersionNotFound`] before the first version, [`Error::VersionClosed`].
pub fn patch(
    snapshot: &SecretSnapshot,
    cas: Option<u32>,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    let secret = snapshot.secret.as_ref().ok_or(Error::SecretNotFound)?;
    check_and_set(secret, &snapshot.domain_config, cas)?;
    let current = snapshot.versions.last().ok_or(Error::VersionNotFound)?;
    if current.state(now) != VersionState::Active {
        return Err(closed(secret, current));
    }
    update(snapshot, cas, &MetadataPatch::default(), true, now)
}

/// That the version of a secret is closed, with what may be known of it all the same.
pub fn closed(secret: &Secret, version: &Version) -> Error {
    let custom_metadata = secret.custom_metadata.clone();
    Error::VersionClosed(Box::new(ClosedVersion { version: version.clone(), custom_metadata }))
}

/// Writes metadata as KV2 does: at a path without a secret it makes one without versions. There is no
/// check-and-set.
pub fn put_metadata(
    snapshot: &SecretSnapshot,
    path: &SecretPath,
    metadata: &MetadataPatch,
    now: Timestamp,
) -> SecretChange {
    let Some(secret) = &snapshot.secret else {
        return SecretChange::Insert { secret: new_secret(path, metadata, now), version: None };
    };
    SecretChange::Update {
        secret: Secret { updated_at: touched(secret, now), ..patched(secret, metadata) },
        version: None,
        prune_through: None,
    }
}

/// Changes metadata as KV2 does, down to single pairs of the custom metadata. There is no check-and-set. What comes
/// out as it was is not written.
///
/// # Errors
///
/// [`Error::SecretNotFound`], [`Argument::CustomMetadata`].
pub fn merge_metadata(
    snapshot: &SecretSnapshot,
    config: &SecretConfigPatch,
    custom_metadata: &CustomMetadataPatch,
    now: Timestamp,
) -> Result<SecretChange, Error> {
    let secret = snapshot.secret.as_ref().ok_or(Error::SecretNotFound)?;
    let custom_metadata = Some(custom_metadata.merged_into(&secret.custom_metadata)?);
    let metadata = MetadataPatch { config: config.clone(), custom_metadata };
    let patched = patched(secret, &metadata);
    if patched == *secret {
        return Ok(SecretChange::Keep(Vec::new()));
    }
    Ok(SecretChange::Update {
        secret: Secret { updated_at: touched(secret, now), ..patched },
        version: None,
        prune_through: None,
    })
}

/// Brings the versions of the snapshot into another state as KV2 does: those that cannot come into it are
/// passed over, and so is a secret that is not there. Activating a version that is active gives it its
/// whole lifetime anew.
pub fn set_version_states(
    snapshot: &SecretSnapshot,
    state: VersionState,
    now: Timestamp,
) -> SecretChange {
    let Some(secret) = &snapshot.secret else { return SecretChange::Keep(Vec::new()) };
    let config = &snapshot.domain_config;
    let becomes = |version: &Version| match (version.state(now), state) {
        (VersionState::Deleted, _) | (VersionState::Deactivated, VersionState::Deactivated) => None,
        _ => Some(in_state(secret, config, version, state, now)),
    };
    let changed: Vec<_> = snapshot.versions.iter().filter_map(becomes).collect();
    if changed.is_empty() {
        return SecretChange::Keep(snapshot.versions.clone());
    }
    SecretChange::SetVersions(changed)
}

/// Brings the one version of the snapshot into another state.
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
    let version = snapshot.versions.first().ok_or(Error::VersionNotFound)?;
    let present = version.state(now);
    if present == state {
        return Ok(SecretChange::Keep(vec![version.clone()]));
    }
    if present == VersionState::Deleted {
        return Err(Error::argument(Argument::State, "a deleted version stays deleted"));
    }
    let version = in_state(secret, &snapshot.domain_config, version, state, now);
    Ok(SecretChange::SetVersions(vec![version]))
}

/// What a caller should know about settings that were stored and do not have the effect that they
/// seem to have.
pub fn warnings(patch: &SecretConfigPatch, domain_config: &SecretConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if patch.cas_required == Some(false) && domain_config.cas_required {
        warnings.push(
            "casRequired is stored as false, but the domain requires cas: it stays required"
                .to_owned(),
        );
    }
    warnings
}

/// A secret before its first version.
fn new_secret(path: &SecretPath, metadata: &MetadataPatch, now: Timestamp) -> Secret {
    Secret {
        path: path.clone(),
        config: SecretConfig::default().patched(&metadata.config),
        custom_metadata: metadata.custom_metadata.clone().unwrap_or_default(),
        current_version: 0,
        oldest_version: 0,
        created_at: now,
        updated_at: now,
    }
}

fn patched(secret: &Secret, metadata: &MetadataPatch) -> Secret {
    let custom_metadata = metadata.custom_metadata.as_ref().unwrap_or(&secret.custom_metadata);
    Secret {
        config: secret.config.patched(&metadata.config),
        custom_metadata: custom_metadata.clone(),
        ..secret.clone()
    }
}

/// When a secret was last written, if it is now. A clock that was set back must not have a version look older than
/// the one before it; when it closes is counted from what the clock says now all the same.
fn touched(secret: &Secret, now: Timestamp) -> Timestamp {
    now.max(secret.updated_at)
}

/// A version as it stands once it is brought into a state. One that is closed keeps the time of that.
fn in_state(
    secret: &Secret,
    domain: &SecretConfig,
    version: &Version,
    state: VersionState,
    now: Timestamp,
) -> Version {
    let closed_at = match version.state(now) {
        VersionState::Active => Some(now),
        _ => version.deactivated_at,
    };
    let deactivated_at = match state {
        VersionState::Active => closing_time(secret, domain, now),
        VersionState::Deactivated | VersionState::Deleted => closed_at,
    };
    Version { deactivated_at, deleted: state == VersionState::Deleted, ..version.clone() }
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
    let (created_at, deactivated_at) = (secret.updated_at, closing_time(secret, domain, now));
    Ok(NewVersion { id, created_at, deactivated_at })
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
