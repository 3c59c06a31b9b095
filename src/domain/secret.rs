//! A secret and the changes of it.

use super::{CustomMetadata, NewVersion, SecretConfig, SecretPath, Timestamp, Version, VersionId};

/// A secret, apart from its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its path, unique in its domain.
    pub path: SecretPath,
    /// Its own settings.
    pub config: SecretConfig,
    /// Its custom metadata.
    pub custom_metadata: CustomMetadata,
    /// The number of the newest version; 0 before the first.
    pub current_version: u32,
    /// 0 until pruning has removed a version, then the lowest number still kept.
    pub oldest_version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its metadata or data was last written.
    pub updated_at: Timestamp,
}

/// All that a rule may look at: read under the same lock under which the change is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSnapshot {
    /// The defaults of the domain.
    pub domain_config: SecretConfig,
    /// The secret, if there is one at the path.
    pub secret: Option<Secret>,
    /// The version that the request names, if it names one and the secret has it.
    pub version: Option<Version>,
}

/// What a rule decided; the store writes it as one whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretChange {
    /// A new secret.
    Insert {
        /// The secret as it will stand.
        secret: Secret,
        /// Its first version.
        version: Option<NewVersion>,
    },
    /// New metadata, a new version, or both.
    Update {
        /// The secret as it will stand.
        secret: Secret,
        /// The version to add.
        version: Option<NewVersion>,
        /// All versions up to this number go.
        prune_through: Option<VersionId>,
    },
    /// A version that closes, opens again or loses its data.
    SetVersion(Version),
    /// Nothing to write; the version already is as asked for.
    KeepVersion(Version),
}

impl SecretChange {
    /// The version that the change adds.
    pub const fn new_version(&self) -> Option<&NewVersion> {
        match self {
            Self::Insert { version, .. } | Self::Update { version, .. } => version.as_ref(),
            _ => None,
        }
    }
}
