//! Where secrets come from, and where they are put.

use super::{
    super::Failure,
    file::Reader,
    vault::Vault,
    words::{Content, SourceSecret},
};

/// Where secrets come from.
pub(super) enum Source {
    File(Box<Reader>),
    Vault(Box<Vault>),
}

/// Where the secrets of a subtree are put.
pub(super) struct Mapping {
    /// The root of the subtree in the source; empty for all.
    pub(super) from: String,
    /// Its root here, where it is another one.
    pub(super) to: Option<String>,
}

impl Source {
    /// Makes it ready to be read.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(_) => Ok(()),
            Self::Vault(vault) => vault.begin().await,
        }
    }

    /// Leaves nothing behind in it.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(_) => Ok(()),
            Self::Vault(vault) => vault.end().await,
        }
    }

    /// The next secret; what was not read of the last one is passed over.
    pub(super) async fn next_secret(&mut self) -> Result<Option<SourceSecret>, Failure> {
        match self {
            Self::File(reader) => reader.next_secret(),
            Self::Vault(vault) => vault.next_secret().await,
        }
    }

    /// A version of the secret that was given last; ascending.
    pub(super) async fn version(&mut self, number: u32) -> Result<Content, Failure> {
        match self {
            Self::File(reader) => reader.version(number),
            Self::Vault(vault) => vault.version(number).await,
        }
    }

    /// Whether versions that are closed are opened to be read.
    pub(super) const fn opens_closed(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Vault(vault) => vault.opens_deleted(),
        }
    }
}

impl Mapping {
    /// Where the secret of this path of the source is put.
    pub(super) fn path(&self, path: &str) -> String {
        let Some(to) = &self.to else { return path.to_owned() };
        let below = path.strip_prefix(&self.from).unwrap_or(path);
        match below.trim_start_matches('/') {
            "" => to.clone(),
            below => format!("{to}/{below}"),
        }
    }
}
