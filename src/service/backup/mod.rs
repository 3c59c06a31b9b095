//! Backups: the whole store in one sealed stream, and back.
//!
//! Rows travel as they are stored, with their MACs: what is sealed in the store stays sealed, and nobody sees
//! plaintext. The one key that is wrapped anew is the store key, which wraps all others: in the backup it is
//! under the backup's secret, in a restored store under the root key of that. Names of rows, which MACs are
//! bound to, stay the same.
//!
//! | file | what it owns |
//! |---|---|
//! | `format` | records within the chunks of a backup |
//! | `verify` | whether a backup restores, and what is in it is whole |

mod format;
mod verify;

use std::{collections::BTreeMap, io::Read, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

use self::format::{BackupReader, BackupWriter, Record};
pub use self::verify::VerifiedBackup;
use super::Keyring;
use crate::{
    audit::Seen,
    crypto::{BackupSecret, RootKey, StoreKeyId, WrappedKey},
    domain::{Clock, Error, Timestamp},
    store::{Copied, DatabaseUrl, Restoration, Snapshot, Store, WrappedStoreKey},
};

/// What operators do with backups.
pub struct Backups {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupContent {
    /// When it was made.
    pub created_at: Timestamp,
    /// The version of the schema of the store.
    pub schema: i64,
    /// The version of the program that made it.
    pub program: String,
    /// The last line of each chain of the audit log then: what it tells of up to there is in the backup.
    pub audit: Vec<Seen>,
    /// How many rows of each table.
    pub rows: BTreeMap<String, u64>,
}

/// The first record.
#[derive(Serialize, Deserialize)]
struct Manifest {
    created_at: i64,
    schema: i64,
    program: String,
    store_key_id: String,
    wrapped_store_key: Vec<u8>,
    /// Chain, line, hash.
    audit: Vec<(String, u64, String)>,
}

impl Backups {
    /// Backups of this store.
    pub fn new(store: Store, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// Sends a backup to `sink`, in pieces. `audit` gives where the audit log ends just before; `progress` is
    /// told how many rows are done.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where nobody takes the pieces for a while: on SQLite, what others write stays in
    /// the log beside the file until this ends. Also when storage fails.
    pub async fn write(
        &self,
        secret: &BackupSecret,
        audit: impl Fn() -> Vec<Seen>,
        sink: mpsc::Sender<Vec<u8>>,
        progress: &dyn Fn(u64),
    ) -> Result<BackupContent, Error> {
        let (header, sealer) = format::begin(secret)?;
        // Before the snapshot, so that what it tells of is in that.
        let mut lines = audit();
        let mut snapshot = self.store.snapshot().await?;
        let mut store_key = self.keyring.store_key();
        if snapshot.store_key_id().await? != *store_key.id() {
            // Replaced since this process has read it.
            snapshot.close().await?;
            self.keyring.renew_store_key().await?;
            lines = audit();
            snapshot = self.store.snapshot().await?;
            store_key = self.keyring.store_key();
            if snapshot.store_key_id().await? != *store_key.id() {
                return Err(Error::Unavailable("the root key is being replaced: try again".into()));
            }
        }
        let mut content = BackupContent {
            created_at: self.clock.now(),
            schema: snapshot.schema(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            audit: lines,
            rows: BTreeMap::new(),
        };
        let wrapped = sealer.wrap(&store_key);
        let wrapped = wrapped.map_err(|_| format::no_randomness())?;
        let manifest = content.manifest(store_key.id(), &wrapped);
        send(&sink, header).await?;
        let mut writer = BackupWriter::new(sealer);
        writer.add(&Record::Manifest(format::json(&manifest)?));
        content.rows = copy(&mut snapshot, &mut writer, &sink, progress).await?;
        snapshot.close().await?;
        writer.add(&Record::End(format::json(&content.rows)?));
        while let Some(chunk) = writer.chunk()? {
            send(&sink, chunk).await?;
        }
        send(&sink, writer.last_chunk()?).await?;
        Ok(content)
    }

    /// Puts a backup into a database that holds nothing, which then belongs to `root_key`. Until this returns, or
    /// where it fails, the database is what it was. `progress` is told how many rows are done.
    ///
    /// `backup` is read as it comes, so this is for a process that does nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the backup does not open, is not whole or is newer than this program;
    /// [`Error::Unavailable`] where the database is not empty or the backup cannot be read; or when storage fails.
    pub async fn restore(
        backup: &mut dyn Read,
        secret: &BackupSecret,
        root_key: &RootKey,
        database: &DatabaseUrl,
        now: Timestamp,
        progress: &dyn Fn(u64),
    ) -> Result<BackupContent, Error> {
        let mut reader = BackupReader::open(backup, secret)?;
        let Some(Record::Manifest(manifest)) = reader.next()? else {
            return Err(format::unfit("it does not begin with what is in it"));
        };
        let manifest: Manifest = format::from_json(&manifest)?;
        let id = StoreKeyId::from_stored(manifest.store_key_id.clone());
        let wrapped = WrappedKey::from_stored(manifest.wrapped_store_key.clone());
        let store_key = reader.unwrap(&wrapped, &id)?;
        let wrapped = store_key.wrap(root_key).map_err(|_| format::no_randomness())?;
        let wrapped = WrappedStoreKey { id, wrapped };
        let mut restoration = Restoration::begin(database, manifest.schema).await?;
        match refill(&mut reader, &mut restoration, progress).await {
            Ok(rows) => {
                restoration.finish(root_key.id(), &wrapped, now).await?;
                Ok(manifest.content(rows))
            }
            Err(error) => {
                restoration.abandon().await;
                Err(error)
            }
        }
    }
}

/// Copies all rows into chunks, and gives how many of each table.
async fn copy(
    snapshot: &mut Snapshot,
    writer: &mut BackupWriter,
    sink: &mpsc::Sender<Vec<u8>>,
    progress: &dyn Fn(u64),
) -> Result<BTreeMap<String, u64>, Error> {
    let mut rows: Counts = Counts::default();
    let mut take = async |piece: Copied| {
        rows.add(&piece, progress)?;
        writer.add(&Record::Piece(piece));
        while let Some(chunk) = writer.chunk()? {
            send(sink, chunk).await?;
        }
        Ok(())
    };
    snapshot.read(&mut take).await?;
    Ok(rows.of_tables)
}

/// Puts all rows into the database that are in chunks, and gives how many of each table.
async fn refill(
    reader: &mut BackupReader<'_>,
    restoration: &mut Restoration,
    progress: &dyn Fn(u64),
) -> Result<BTreeMap<String, u64>, Error> {
    let mut rows = Counts::default();
    loop {
        match reader.next()? {
            Some(Record::Piece(piece)) => {
                rows.add(&piece, progress)?;
                restoration.take(piece).await?;
            }
            Some(Record::End(told)) => {
                reader.end()?;
                let told: BTreeMap<String, u64> = format::from_json(&told)?;
                if told != rows.of_tables {
                    return Err(format::unfit("it has other rows than it says"));
                }
                return Ok(told);
            }
            Some(Record::Manifest(_)) | None => {
                return Err(format::unfit("its records are in no order that there is"));
            }
        }
    }
}

/// How many rows there were.
#[derive(Default)]
struct Counts {
    of_tables: BTreeMap<String, u64>,
    table: String,
    all: u64,
}

impl Counts {
    fn add(&mut self, piece: &Copied, progress: &dyn Fn(u64)) -> Result<(), Error> {
        match piece {
            Copied::Table { name, .. } => {
                self.table.clone_from(name);
                self.of_tables.insert(name.clone(), 0);
            }
            Copied::Row(_) => {
                let rows = self.of_tables.get_mut(&self.table);
                *rows.ok_or_else(|| format::unfit("it has a row of no table"))? += 1;
                self.all += 1;
                progress(self.all);
            }
        }
        Ok(())
    }
}

impl BackupContent {
    fn manifest(&self, id: &StoreKeyId, wrapped: &WrappedKey) -> Manifest {
        let line = |seen: &Seen| (seen.chain.clone(), seen.seq, seen.hash.clone());
        Manifest {
            created_at: self.created_at.as_millis(),
            schema: self.schema,
            program: self.program.clone(),
            store_key_id: id.as_str().to_owned(),
            wrapped_store_key: wrapped.as_bytes().to_vec(),
            audit: self.audit.iter().map(line).collect(),
        }
    }
}

impl Manifest {
    fn content(self, rows: BTreeMap<String, u64>) -> BackupContent {
        let line = |(chain, seq, hash)| Seen { chain, seq, hash };
        BackupContent {
            created_at: Timestamp::from_millis(self.created_at),
            schema: self.schema,
            program: self.program,
            audit: self.audit.into_iter().map(line).collect(),
            rows,
        }
    }
}

async fn send(sink: &mpsc::Sender<Vec<u8>>, piece: Vec<u8>) -> Result<(), Error> {
    let sent = timeout(STALL_TIME, sink.send(piece)).await;
    sent.map_err(|_| {
        let text = format!("nobody took a piece of the backup for {} s", STALL_TIME.as_secs());
        Error::Unavailable(text)
    })?
    .map_err(|_| Error::Unavailable("the backup cannot be written".into()))
}

/// How long the reader of a pipe may hold a backup up. A disk that is busy takes seconds; a person who stopped a
/// program takes for ever, and the log of SQLite grows meanwhile.
const STALL_TIME: Duration = Duration::from_secs(60);
