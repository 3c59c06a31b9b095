//! Statements that read secrets and their versions.

use std::sync::Arc;

use sqlx::FromRow as _;

use super::{
    SecretWithVersion, Store, StoreError, StoredSecret, StoredVersion,
    connection::{fetch_all, fetch_each, fetch_optional},
    engine::{Engine, in_time},
    row_cache::Looked,
    secret_rows::{
        ListedVersionRow, SecretWithVersionRow, join_following, of_secret, secret_columns,
        version_columns,
    },
};
use crate::{
    domain::{Error, OkmsId, SecretPath, VersionId},
    iam::PathRange,
};

/// The statement for rows of [`SecretWithVersionRow`]; what follows begins with the column `sealed_data`.
macro_rules! select_secrets {
    ($columns:literal, $from:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            secret_columns!(),
            ", s.custom_metadata, ",
            version_columns!(),
            ", ",
            $columns,
            " FROM ",
            $from,
            " ",
            join_following!(),
            " ",
            $rest
        )
    };
}

/// The statement that finds a secret with one of its versions. The cast tells PostgreSQL the type of a parameter
/// that may be NULL.
pub(super) const FIND_SECRET: &str = select_secrets!(
    "CASE WHEN CAST($4 AS BIGINT) = 1 THEN v.sealed_data END AS sealed_data",
    "secrets s",
    "LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
     AND v.version = COALESCE(CAST($3 AS BIGINT), s.current_version) \
     WHERE s.okms_id = $1 AND s.path = $2"
);

/// The first version that a page may have. One bound: of two, SQLite searches its index by the one and looks at
/// each row for the other, so that a page in the middle of many versions takes as long as all before it.
macro_rules! first_version {
    () => {
        "CASE WHEN s.oldest_version > $3 THEN s.oldest_version ELSE $3 + 1 END"
    };
}

/// The statement of [`Store::list_paths`].
macro_rules! list_paths {
    () => {
        "SELECT path FROM secrets WHERE okms_id = $1 AND path >= $2 AND path < $3 \
         ORDER BY path LIMIT $4"
    };
}

impl Store {
    /// A secret with the given version, or else its current one, as of now or of any moment since `looked`.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_secret(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        version: Option<VersionId>,
        with_data: bool,
        looked: Option<Looked>,
    ) -> Result<Option<Arc<SecretWithVersion>>, Error> {
        let Some(cache) = self.engine.cache().filter(|_| version.is_none() && with_data) else {
            let found = self.read_secret(okms_id, path, version, with_data).await?;
            return Ok(found.map(Arc::new));
        };
        let key = (okms_id, path.clone());
        if let Some(kept) = cache.secret(&key, looked) {
            return Ok(Some(kept));
        }
        let as_of = cache.as_of();
        let found = self.read_secret(okms_id, path, None, true).await?.map(Arc::new);
        if let (Some(as_of), Some(found)) = (as_of, &found) {
            cache.keep_secret(as_of, key, Arc::clone(found));
        }
        Ok(found)
    }

    async fn read_secret(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        version: Option<VersionId>,
        with_data: bool,
    ) -> Result<Option<SecretWithVersion>, Error> {
        let (domain, version) = (okms_id.to_string(), version.map(|id| i64::from(id.get())));
        let with_data = i64::from(with_data);
        let row = match &*self.engine {
            Engine::Sqlite { readers, secrets, .. } => {
                let values =
                    vec![domain.into(), path.as_str().into(), version.into(), with_data.into()];
                let row = Box::pin(in_time(secrets.read(readers, values))).await?;
                let row = row.as_ref().map(SecretWithVersionRow::from_row).transpose();
                row.map_err(StoreError::Sql)?
            }
            Engine::Postgres(_) => {
                let wanted = path.clone();
                self.read(move |connection| {
                    let (domain, path) = (domain.clone(), wanted.clone());
                    Box::pin(async move {
                        fetch_optional!(
                            connection,
                            SecretWithVersionRow,
                            FIND_SECRET,
                            domain,
                            path.as_str(),
                            version,
                            with_data,
                        )
                    })
                })
                .await?
            }
        };
        let found = row.map(SecretWithVersionRow::into_secret).transpose();
        found.map_err(|error| of_secret(path, error))
    }

    /// Secrets of a domain whose paths are in a range, with their current versions, without data, in the
    /// order of the bytes of their paths. A row that cannot be read is an error in its place.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_secrets(
        &self,
        okms_id: OkmsId,
        range: &PathRange,
        limit: u32,
    ) -> Result<Vec<Result<SecretWithVersion, Error>>, Error> {
        // The limit comes before the join, or PostgreSQL joins all secrets first.
        let sql = select_secrets!(
            "CASE WHEN 1 = 0 THEN v.sealed_data END AS sealed_data",
            "(SELECT * FROM secrets WHERE okms_id = $1 AND path >= $2 AND path < $3 \
             ORDER BY path LIMIT $4) s",
            "LEFT JOIN secret_versions v ON v.secret_id = s.secret_id \
             AND v.version = s.current_version ORDER BY s.path"
        );
        let range = range.clone();
        let rows = self
            .read(move |connection| {
                let PathRange { from, to } = range.clone();
                Box::pin(async move {
                    let (okms_id, limit) = (okms_id.to_string(), i64::from(limit));
                    fetch_each!(connection, SecretWithVersionRow, sql, &okms_id, from, to, limit)
                })
            })
            .await?;
        let read = |row: Result<SecretWithVersionRow, sqlx::Error>| {
            row.map_err(StoreError::Sql)?.into_secret()
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Paths of the secrets of a domain in a range, in the order of their bytes: what is looked at to
    /// find the few that somebody may see, from an index alone. One that cannot be read is an error in its
    /// place.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_paths(
        &self,
        okms_id: OkmsId,
        range: &PathRange,
        limit: u32,
    ) -> Result<Vec<Result<SecretPath, Error>>, Error> {
        let sql = list_paths!();
        let range = range.clone();
        let rows = self
            .read(move |connection| {
                let PathRange { from, to } = range.clone();
                Box::pin(async move {
                    let (okms_id, limit) = (okms_id.to_string(), i64::from(limit));
                    fetch_each!(connection, (String,), sql, &okms_id, from, to, limit)
                })
            })
            .await?;
        let read = |row: Result<(String,), sqlx::Error>| {
            let (path,) = row.map_err(StoreError::Sql)?;
            SecretPath::parse(&path).map_err(|_| Error::Internal("stored path".into()))
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// A secret, and its versions above the number `after`, ascending, up to `limit`; `None` where there
    /// is no such secret. Rows of versions that the secret cannot have are left out.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_versions(
        &self,
        okms_id: OkmsId,
        path: &SecretPath,
        after: u32,
        limit: u32,
    ) -> Result<Option<(StoredSecret, Vec<StoredVersion>)>, Error> {
        // A secret without versions in the range gives one row without a version. Its custom metadata, which
        // may be large, comes along once.
        let sql = concat!(
            "SELECT ",
            secret_columns!(),
            ", CASE WHEN v.version IS NULL OR v.version = (SELECT MIN(m.version) \
             FROM secret_versions m WHERE m.secret_id = s.secret_id AND m.version >= ",
            first_version!(),
            ") THEN s.custom_metadata END AS custom_metadata, ",
            version_columns!(),
            " FROM secrets s ",
            join_following!(),
            " LEFT JOIN secret_versions v ON v.secret_id = s.secret_id AND v.version >= ",
            first_version!(),
            " AND v.version <= s.current_version \
             WHERE s.okms_id = $1 AND s.path = $2 ORDER BY v.version LIMIT $4"
        );
        let wanted = path.clone();
        let rows = self
            .read(move |connection| {
                let path = wanted.clone();
                Box::pin(async move {
                    fetch_all!(
                        connection,
                        ListedVersionRow,
                        sql,
                        okms_id.to_string(),
                        path.as_str(),
                        i64::from(after),
                        i64::from(limit),
                    )
                })
            })
            .await?;
        let (mut secret, mut versions) = (None, Vec::new());
        for (index, row) in rows.into_iter().enumerate() {
            if index == 0 {
                secret = row.secret.into_secret().map_err(|error| of_secret(path, error))?;
            }
            let version = row.version.into_version(None);
            versions.extend(version.map_err(|error| of_secret(path, error))?);
        }
        Ok(secret.map(|secret| (secret, versions)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseUrl;

    #[tokio::test]
    async fn paths_are_found_and_ordered_by_an_index_alone() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("x.sqlite"));
        let store = Store::open(&url).await.unwrap();
        let sql = concat!("EXPLAIN QUERY PLAN ", list_paths!());
        let plan = store.read(move |connection| {
            Box::pin(async move {
                fetch_all!(connection, (i64, i64, i64, String), sql, "x", "a/", "a0", 16_i64)
            })
        });
        let plan = plan.await.unwrap();
        let steps: Vec<&str> = plan.iter().map(|(.., step)| step.as_str()).collect();
        // One step: no table is looked at, and nothing is sorted.
        let [step] = steps[..] else { panic!("{steps:?}") };
        assert!(step.starts_with("SEARCH secrets USING COVERING INDEX"), "{step}");
        assert!(step.ends_with("(okms_id=? AND path>? AND path<?)"), "{step}");
    }
}
