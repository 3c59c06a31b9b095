//! Statements about domains.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{
    NewKey, Store, StoreError,
    connection::{execute, fetch_all, fetch_each, fetch_optional},
    engine::lock_domain,
    keys::{add_key_revision, insert_key},
    root_keys::has_store_key,
};
use crate::domain::{
    Error, OkmsDomain, OkmsId, SecretConfig, SecretConfigPatch, Timestamp, VersionLifetime,
};

/// The statement for rows of [`DomainRow`].
macro_rules! select_domains {
    ($which:literal) => {
        concat!(
            "SELECT okms_id, name, region, created_at, cas_required, max_versions, \
             deactivate_version_after FROM domains ",
            $which
        )
    };
}

impl Store {
    /// Makes a domain with its first key; `false`, and nothing done, where the store key that wraps the
    /// key has been replaced.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn insert_domain(&self, domain: OkmsDomain, key: NewKey) -> Result<bool, Error> {
        self.write(move |tx| {
            let (domain, key) = (domain.clone(), key.clone());
            Box::pin(async move {
                if !has_store_key(&mut tx.connection, &key.store_key_id).await? {
                    return Ok(false);
                }
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "INSERT INTO domains (okms_id, name, region, created_at, cas_required, \
                     max_versions, deactivate_version_after) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    domain.okms_id.to_string(),
                    &domain.name,
                    &domain.region,
                    domain.created_at.as_millis(),
                    i64::from(domain.config.cas_required),
                    i64::from(domain.config.max_versions),
                    domain.config.deactivate_version_after.as_str(),
                )?;
                insert_key(&mut tx.connection, domain.okms_id, &key, domain.created_at).await?;
                Ok(true)
            })
        })
        .await
    }

    /// All domains, by id. One that cannot be read is there as its id, if that is a text, and why.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_domains(&self) -> Result<Vec<Result<OkmsDomain, UnreadableDomain>>, Error> {
        let sql = select_domains!("ORDER BY okms_id");
        let rows = self
            .read(|connection| Box::pin(async move { fetch_each!(connection, ListedRow, sql) }))
            .await?;
        let read = |row: Result<ListedRow, sqlx::Error>| {
            let ListedRow { okms_id, row } = row.map_err(StoreError::Sql)?;
            let read = row.map_err(|error| Error::from(StoreError::Sql(error)));
            let domain = read.and_then(OkmsDomain::try_from);
            Ok(domain.map_err(|error| UnreadableDomain { okms_id, error }))
        };
        rows.into_iter().map(read).collect()
    }

    /// The ids of all domains, by id. A row of which not even that can be read is logged and left out.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_okms_ids(&self) -> Result<Vec<OkmsId>, Error> {
        let sql = "SELECT okms_id FROM domains ORDER BY okms_id";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_all!(connection, (String,), sql) }))
            .await?;
        Ok(rows.into_iter().filter_map(|(id,)| readable_id(&id)).collect())
    }

    /// A domain.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_domain(&self, okms_id: OkmsId) -> Result<Option<OkmsDomain>, Error> {
        let sql = select_domains!("WHERE okms_id = $1");
        let row = self
            .read(move |connection| {
                Box::pin(
                    async move { fetch_optional!(connection, DomainRow, sql, okms_id.to_string()) },
                )
            })
            .await?;
        row.map(OkmsDomain::try_from).transpose()
    }

    /// Removes a domain with its keys, credentials and secrets; `false` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_domain(&self, okms_id: OkmsId) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                (tx.wrote, tx.deleted) = (true, true);
                let id = okms_id.to_string();
                // Nobody adds a secret from here on. The secrets go first: they refer to the keys, and
                // in which order a database follows the references from a domain is its own affair.
                lock_domain(&mut tx.connection, &id).await?;
                execute!(&mut tx.connection, "DELETE FROM secrets WHERE okms_id = $1", &id)?;
                let sql = "DELETE FROM idempotency_keys WHERE okms_id = $1";
                execute!(&mut tx.connection, sql, &id)?;
                let sql = "DELETE FROM domains WHERE okms_id = $1";
                let rows = execute!(&mut tx.connection, sql, &id)?;
                // So that its keys leave the memory of every process.
                add_key_revision(&mut tx.connection).await?;
                Ok(rows > 0)
            })
        })
        .await
    }

    /// Changes the defaults of a domain and gives them as they then are.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn update_config(
        &self,
        okms_id: OkmsId,
        patch: SecretConfigPatch,
    ) -> Result<SecretConfig, Error> {
        self.write(move |tx| {
            let patch = patch.clone();
            Box::pin(async move {
                let id = okms_id.to_string();
                lock_domain(&mut tx.connection, &id).await?;
                let row = fetch_optional!(
                    &mut tx.connection,
                    DomainRow,
                    select_domains!("WHERE okms_id = $1"),
                    &id
                )?;
                let domain = OkmsDomain::try_from(row.ok_or(Error::DomainNotFound)?)?;
                let config = domain.config.patched(&patch);
                tx.wrote = true;
                execute!(
                    &mut tx.connection,
                    "UPDATE domains SET cas_required = $2, max_versions = $3, \
                     deactivate_version_after = $4 WHERE okms_id = $1",
                    &id,
                    i64::from(config.cas_required),
                    i64::from(config.max_versions),
                    config.deactivate_version_after.as_str(),
                )?;
                Ok(config)
            })
        })
        .await
    }
}

/// A row of a domain that cannot be read.
#[derive(Debug, Clone)]
pub struct UnreadableDomain {
    /// What stands where its id should be; `None` where that is no text.
    pub okms_id: Option<String>,
    /// Why not.
    pub error: Error,
}

/// A row of a domain, whatever is in it.
struct ListedRow {
    okms_id: Option<String>,
    row: Result<DomainRow, sqlx::Error>,
}

impl<'r, R: Row> FromRow<'r, R> for ListedRow
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    DomainRow: FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self { okms_id: row.try_get("okms_id").ok(), row: DomainRow::from_row(row) })
    }
}

#[derive(FromRow)]
struct DomainRow {
    okms_id: String,
    name: String,
    region: String,
    created_at: i64,
    cas_required: i64,
    max_versions: i64,
    deactivate_version_after: String,
}

impl TryFrom<DomainRow> for OkmsDomain {
    type Error = Error;

    fn try_from(row: DomainRow) -> Result<Self, Error> {
        Ok(Self {
            okms_id: row.okms_id.parse().map_err(|_| Error::Internal("stored okmsId".into()))?,
            name: row.name,
            region: stored_region(row.region)?,
            created_at: Timestamp::from_millis(row.created_at),
            config: config(row.cas_required, row.max_versions, &row.deactivate_version_after)?,
        })
    }
}

/// The id of a domain as a row holds it; one that is none is logged.
pub(super) fn readable_id(text: &str) -> Option<OkmsId> {
    let id = text.parse();
    id.inspect_err(|_| tracing::error!("a row of a domain is left out: its id cannot be read")).ok()
}

/// The settings that a row holds.
pub(super) fn config(
    cas_required: i64,
    max_versions: i64,
    deactivate_version_after: &str,
) -> Result<SecretConfig, Error> {
    Ok(SecretConfig {
        cas_required: cas_required != 0,
        max_versions: stored_u32(max_versions)?,
        deactivate_version_after: VersionLifetime::parse(deactivate_version_after)
            .map_err(|_| Error::Internal("stored deactivateVersionAfter".into()))?,
    })
}

/// The region that a row holds. It becomes a part of URNs, in answers and records: what a damaged row has there
/// must not.
pub(super) fn stored_region(text: String) -> Result<String, Error> {
    match OkmsDomain::check_region(&text) {
        Ok(()) => Ok(text),
        Err(_) => Err(Error::Internal("stored region".into())),
    }
}

/// A number that a row holds.
pub(super) fn stored_u32(number: i64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::Internal("stored number out of its range".into()))
}
