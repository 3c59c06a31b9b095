//! All SQL, for both engines; sees ciphertext only.
//!
//! What it owns: the schema (`migrations/`), the statements, transactions and their locks. What it
//! must not do: know a rule of secrets (it asks a decision of its caller, under lock, and writes
//! what that says), see plaintext or a key, or let an error of the engine out (callers get
//! [`domain::Error`] only).
//!
//! Each statement exists once: `$n` placeholders, text, 64-bit integers and bytes are understood by
//! both engines. What differs stands in `engine` and in the two migration folders.
//!
//! | file | what it owns |
//! |---|---|
//! | `engine` | connecting, and all that differs between the engines |
//! | `connection` | running one statement on either engine |
//! | `shared_reads` | one read for all who ask the same at the same time |
//! | `joined_reads` | on SQLite: reads that wait at the same time share a round trip |
//! | `shelf` | connections between two pieces of work |
//! | `line` | how many may wait for one, or for the writer |
//! | `transaction` | units of work; on PostgreSQL one transaction each |
//! | `writer` | on SQLite: one writer, many units of work to a commit |
//! | `pipeline` | on SQLite: many statements in one round trip |
//! | `row_cache`, `wal_index` | on SQLite: rows kept in memory, sealed, for as long as no commit changed them |
//! | `sqlite_file` | on SQLite: the file is private, and held by one server |
//! | `migrations` | the schema, step by step |
//! | `upgrade` | on SQLite: an older schema is copied before it is brought up to date |
//! | `tables`, `snapshot`, `restoration` | the whole store, copied row by row |
//! | `long_transaction` | transactions for that |
//! | `checkpoints` | on SQLite: pages go from the log into the file beside the writer |
//! | `cleaning` | on SQLite: destroyed data leaves the files too |
//! | `measures` | what monitoring is told |
//! | `error` | errors of the engines in the words of the domain |
//! | `key_uses` | what is under which key of a domain; sealing it anew |
//! | `secret_rows` | rows of secrets and versions, which prove themselves to whoever has keys |
//! | `iam_rows` | rows of policies and groups, readable or not |
//! | `unproven` | rows of a time before they did |
//! | `idempotency` | what was answered to writes that are to be done once |
//! | `secret_counts` | how many secrets a domain has |
//! | `domains`, `keys`, `root_keys`, `credentials`, `tokens`, `token_keys`, `policies`, `secrets`, `secret_changes` | statements, one file per resource |

mod checkpoints;
mod cleaning;
mod connection;
mod credentials;
mod domains;
mod engine;
mod error;
mod iam_rows;
mod idempotency;
mod joined_reads;
mod key_uses;
mod keys;
mod line;
mod long_transaction;
mod measures;
mod migrations;
mod pipeline;
mod policies;
mod postgres_url;
mod restoration;
mod root_keys;
mod row_cache;
mod secret_changes;
mod secret_counts;
mod secret_rows;
mod secrets;
mod shared_reads;
mod shelf;
mod snapshot;
mod sqlite_file;
mod tables;
mod token_keys;
mod tokens;
mod transaction;
mod unproven;
mod upgrade;
mod wal_index;
mod writer;

use std::sync::Arc;

use self::{connection::Connection, engine::Engine, error::StoreError, shared_reads::SharedReads};
pub use self::{
    credentials::{FoundCredential, FoundExternal, FoundRegistration},
    domains::UnreadableDomain,
    engine::{DatabaseUrl, DatabaseUrlError},
    iam_rows::{MemberRow, RowHandle, StoredIam, StoredMember, StoredPolicy},
    idempotency::{OnceKey, StoredOutcome},
    key_uses::{
        KeyUse, Rewrapped, RewrappedVersions, Rewrapping, StalePlace, StaleSecret, StaleSecrets,
    },
    keys::{DomainKeyring, KeyInsertion, NewKey, StoredKey},
    measures::{Connections, KeyMeasures, StoreMeasures, WriterMeasures},
    policies::Applied,
    restoration::Restoration,
    root_keys::{RootKeyRotation, RootKeySlot, WrappedStoreKey},
    row_cache::Looked,
    secret_changes::{Changed, Decision, SecretProof, VersionProof},
    secret_rows::{
        RowProof, SecretWithVersion, StoredSecret, StoredSnapshot, StoredVersion, Verified,
    },
    snapshot::{Copied, Snapshot},
    tables::CopiedValue,
    token_keys::{SignAnew, StoredTokenKey, TokenKeyChange},
    tokens::{FoundToken, TokenProof, TokenWrite, UnreadableToken},
    unproven::{NewProof, UnprovenPage, UnprovenSecret, UnprovenVersion},
    writer::Commits,
};
use crate::{
    crypto::{KeyId, TokenHash},
    domain::{self, CredentialId, OkmsId},
};

/// The database. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    callers: Arc<CallerReads>,
    /// How many secrets a domain may have, where there is a limit.
    secrets_per_domain: Option<u32>,
    /// Whether there was none before it was opened.
    is_new: bool,
}

/// What is done where there is no store in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// That is an error, and nothing is made: a path may be mistyped.
    Refuse,
    /// A new one is made.
    Make,
}

impl IfAbsent {
    /// Whether a store is new, where it may be.
    fn settle(self, is_absent: bool) -> Result<bool, domain::Error> {
        if is_absent && self == Self::Refuse {
            let text = "there is no store in the database; `okmsd serve` and `okmsd domain create` \
                        make one";
            return Err(domain::Error::Unavailable(text.into()));
        }
        Ok(is_absent)
    }
}

/// What the requests of one caller ask for at the same time.
#[derive(Default)]
struct CallerReads {
    credentials: SharedReads<CredentialId, Option<Arc<FoundCredential>>>,
    externals: SharedReads<(OkmsId, [u8; 32]), Option<FoundExternal>>,
    tokens: SharedReads<TokenHash, Option<FoundToken>>,
}

impl Store {
    /// Opens the database, makes it where it is a SQLite file that does not exist, and brings its
    /// schema up to date.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, is newer than this program, or does not take the settings that
    /// keep acknowledged writes safe.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, domain::Error> {
        Self::open_or(url, IfAbsent::Make).await
    }

    /// As [`Store::open`], with a choice where there is no store.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]; and where there is none, and none is to be made.
    pub async fn open_or(url: &DatabaseUrl, if_absent: IfAbsent) -> Result<Self, domain::Error> {
        Self::open_engine(url, Commits::Grouped, if_absent).await
    }

    /// As [`Store::open`], with a choice that a server does not have: for benchmarks.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    #[doc(hidden)]
    pub async fn open_with(url: &DatabaseUrl, commits: Commits) -> Result<Self, domain::Error> {
        Self::open_engine(url, commits, IfAbsent::Make).await
    }

    async fn open_engine(
        url: &DatabaseUrl,
        commits: Commits,
        if_absent: IfAbsent,
    ) -> Result<Self, domain::Error> {
        let (engine, is_new) = Engine::open(url, commits, if_absent).await?;
        let (engine, callers) = (Arc::new(engine), Arc::default());
        Ok(Self { engine, callers, secrets_per_domain: None, is_new })
    }

    /// Whether there was no store in the database before this one was opened.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The same, making no secret in a domain that has so many; 0 is no limit.
    #[must_use]
    pub fn with_secrets_per_domain(self, limit: u32) -> Self {
        Self { secrets_per_domain: Some(limit).filter(|limit| *limit > 0), ..self }
    }

    /// The same, refusing work at once when so much waits: writes on SQLite, all work on PostgreSQL. This counts for
    /// all clones.
    #[must_use]
    pub fn with_queue_length(self, length: u32) -> Self {
        self.engine.limit_queue(length as usize);
        self
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}
