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

impl Secret {
    /// Whether it has a version of that number: they are numbered without gaps, and only the oldest go.
    pub fn keeps(&self, id: VersionId) -> bool {
        (self.oldest_version..=self.current_version).contains(&id.get())
    }
}

/// All that a rule may look at: read under the same lock under which the change is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSnapshot {
    /// The defaults of the domain.
    pub domain_config: SecretConfig,
    /// The secret, if there is one at the path.
    pub secret: Option<Secret>,
    /// Those of the versions that were [`Wanted`] which the secret has, ascending.
    pub versions: Vec<Version>,
}

/// Which versions of a secret a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// None: the secret alone decides.
    Nothing,
    /// The current one.
    Current,
    /// The current one, and its data.
    CurrentData,
    /// These, in whatever order the request names them.
    These(Vec<VersionId>),
}

impl Wanted {
    /// The numbers of those that a secret has, ascending, each once: versions are numbered without gaps,
    /// and only the oldest go.
    pub fn of(&self, secret: &Secret) -> Vec<VersionId> {
        let mut ids = match self {
            Self::Nothing => Vec::new(),
            Self::Current | Self::CurrentData => {
                VersionId::new(secret.current_version).into_iter().collect()
            }
            Self::These(ids) => ids.iter().copied().filter(|id| secret.keeps(*id)).collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        ids
    }
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
    /// Versions that close, open again or lose their data; at least one.
    SetVersions(Vec<Version>),
    /// Nothing to write: these versions, if any, already are as asked for.
    Keep(Vec<Version>),
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
