//! What monitoring is told of the store.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Store, connection::fetch_optional, engine::Engine};
use crate::{domain::Error, measure::FindsMeasured};

/// The store at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreMeasures {
    /// Connections for reads on SQLite, for everything on PostgreSQL.
    pub connections: Connections,
    /// The writer of SQLite.
    pub writer: Option<WriterMeasures>,
}

/// The connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those that nobody uses just now.
    pub idle: u32,
    /// Those in use.
    pub used: u32,
    /// Pieces of work that wait for one.
    pub waiting: u64,
    /// Pieces of work that were refused because too many waited, since the start.
    pub refused: u64,
}

/// The writer of SQLite at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterMeasures {
    /// Units of work that wait for it.
    pub waiting: u64,
    /// Units that were refused because too many waited, since the start.
    pub refused: u64,
    /// How many units of work were in all groups since the start.
    pub units: u64,
    /// How many groups there were: for each bound, those of at most as many units that do not fit the bound
    /// before it.
    pub groups: [(u32, u64); GROUP_BOUNDS.len()],
}

/// What is known of the keys of all domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMeasures {
    /// How often the most used of the keys that domains seal with may have sealed, as far as that is set aside.
    pub most_uses: u64,
    /// Keys that domains seal with.
    pub newest: u64,
    /// Keys that have a successor, and still open what is under them.
    pub old: u64,
}

/// The sizes of the writer's groups, counted.
#[derive(Debug, Default)]
pub(super) struct GroupSizes {
    units: AtomicU64,
    groups: [AtomicU64; GROUP_BOUNDS.len()],
}

impl GroupSizes {
    /// Counts a group of so many units.
    pub(super) fn add(&self, units: usize) {
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        let place = GROUP_BOUNDS.iter().position(|bound| units <= *bound as usize);
        if let Some(count) = self.groups.get(place.unwrap_or(GROUP_BOUNDS.len() - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn measures(&self, waiting: usize, refused: u64) -> WriterMeasures {
        let mut groups = GROUP_BOUNDS.map(|bound| (bound, 0));
        for ((_, sum), count) in groups.iter_mut().zip(&self.groups) {
            *sum = count.load(Ordering::Relaxed);
        }
        let units = self.units.load(Ordering::Relaxed);
        WriterMeasures { waiting: waiting as u64, refused, units, groups }
    }
}

impl Store {
    /// What can be told without asking the database.
    pub fn measures(&self) -> StoreMeasures {
        let ((size, idle), line, writer) = match &*self.engine {
            Engine::Sqlite { readers, writer, .. } => {
                (readers.sizes(), readers.line(), Some(writer.measures()))
            }
            Engine::Postgres(connections) => (connections.sizes(), connections.line(), None),
        };
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        let (used, waiting, refused) = (size - idle, line.length(), line.refused());
        StoreMeasures { connections: Connections { idle, used, waiting, refused }, writer }
    }

    /// What was found in memory of rows since the start, and what was not, where rows are kept.
    pub fn finds(&self) -> Vec<(&'static str, FindsMeasured)> {
        self.engine.cache().map(|cache| cache.finds().into()).unwrap_or_default()
    }

    /// Bytes that the database takes on the disk; on SQLite with its log.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn database_bytes(&self) -> Result<u64, Error> {
        if let Engine::Sqlite { readers, .. } = &*self.engine {
            let bytes = bytes_of_sqlite(readers.connect_options().get_filename());
            return bytes.map_err(|error| Error::Unavailable(error.to_string()));
        }
        let sql = "SELECT pg_database_size(current_database())";
        let row = self
            .read(|connection| Box::pin(async move { fetch_optional!(connection, (i64,), sql) }))
            .await?;
        Ok(row.and_then(|(bytes,)| u64::try_from(bytes).ok()).unwrap_or_default())
    }

    /// What is known of the keys of all domains.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn key_measures(&self) -> Result<KeyMeasures, Error> {
        let sql = "SELECT COALESCE(MAX(k.uses), 0), COUNT(*), \
                   (SELECT COUNT(*) FROM domain_keys) - COUNT(*) FROM domain_keys k \
                   WHERE k.generation = (SELECT MAX(n.generation) FROM domain_keys n \
                   WHERE n.okms_id = k.okms_id)";
        let row = self
            .read(|connection| {
                Box::pin(async move { fetch_optional!(connection, (i64, i64, i64), sql) })
            })
            .await?;
        let (uses, newest, old) = row.unwrap_or_default();
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(KeyMeasures { most_uses: number(uses), newest: number(newest), old: number(old) })
    }
}

/// By the names alone: to open and close the file would take SQLite's locks away.
fn bytes_of_sqlite(path: &Path) -> io::Result<u64> {
    // The log is beside the file that a link leads to.
    let path = path.canonicalize()?;
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    let log = fs::metadata(log).map_or(0, |log| log.len());
    Ok(fs::metadata(path)?.len() + log)
}

/// Each twice the one before, up to the most that the writer takes at once.
const GROUP_BOUNDS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;
    use crate::store::{DatabaseUrl, engine::SQLITE_READERS};

    #[tokio::test]
    async fn reads_on_sqlite_wait_in_a_queue_with_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let store = Store::open(&url).await.unwrap().with_queue_length(1);
        let Engine::Sqlite { readers, .. } = &*store.engine else { panic!("of SQLite") };
        let mut held = Vec::new();
        for _ in 0..SQLITE_READERS {
            held.push(readers.take().await.unwrap());
        }
        let mut waiting = Box::pin(store.key_measures());
        assert!(poll_immediate(&mut waiting).await.is_none());
        let refused = poll_immediate(Box::pin(store.key_measures())).await;
        assert!(matches!(refused, Some(Err(Error::Unavailable(_)))), "{refused:?}");
        let connections = store.measures().connections;
        assert_eq!((connections.waiting, connections.refused), (1, 1));
        held.clear();
        waiting.await.unwrap();
    }

    #[test]
    fn groups_are_counted_by_their_size() {
        let sizes = GroupSizes::default();
        for units in [1, 1, 2, 3, 4, 5, 256] {
            sizes.add(units);
        }
        let measures = sizes.measures(7, 2);
        assert_eq!((measures.waiting, measures.refused, measures.units), (7, 2, 272));
        let counted: Vec<_> =
            measures.groups.into_iter().filter(|(_, groups)| *groups > 0).collect();
        assert_eq!(counted, [(1, 2), (2, 1), (4, 2), (8, 1), (256, 1)]);
        assert_eq!(
            GROUP_BOUNDS.last().map(|bound| *bound as usize),
            Some(super::super::writer::BATCH_SIZE)
        );
    }
}
