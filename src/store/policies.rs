//! Statements about policies and groups.

use super::{
    Store, StoreError,
    connection::{execute, fetch_each, fetch_optional},
    engine::delete_by_bytes,
    iam_rows::{IamRow, MemberRow, RowHandle, StoredIam, StoredMember, StoredPolicy},
    transaction::Tx,
};
use crate::{
    domain::{Error, IdentityUrn, Timestamp},
    iam::{MAX_GROUP_MEMBERS, MAX_POLICIES},
};

/// What applying a policy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none of this name.
    Created,
    /// It took the place of another one.
    Replaced,
    /// It was there already.
    Unchanged,
}

impl Store {
    /// All policies and groups, as of one moment. A row that holds no text is there all the same.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn load_iam(&self) -> Result<StoredIam, Error> {
        // One statement sees one state, on both engines.
        let sql = "SELECT CAST(0 AS BIGINT) AS kind, CAST(iam AS TEXT) AS one, '' AS other \
                   FROM revisions WHERE id = 1 \
                   UNION ALL SELECT CAST(1 AS BIGINT), name, document FROM policies \
                   UNION ALL SELECT CAST(2 AS BIGINT), group_urn, member_urn FROM group_members";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_each!(connection, IamRow, sql) }))
            .await?;
        let mut found = StoredIam::default();
        for row in rows {
            let IamRow { kind, one, other } = row.map_err(StoreError::Sql)?;
            match kind {
                0 => {
                    let revision = one.and_then(|one| one.parse().ok());
                    let broken = || Error::Internal("stored revision".into());
                    found.revision = revision.ok_or_else(broken)?;
                }
                1 => found.policies.push((one, other)),
                _ => found.members.push(StoredMember { group: one, member: other }),
            }
        }
        Ok(found)
    }

    /// All policies, those too whose row holds no text.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_policies(&self) -> Result<Vec<StoredPolicy>, Error> {
        let sql = "SELECT name, document, created_at, updated_at FROM policies";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_each!(connection, StoredPolicy, sql) }))
            .await?;
        let policies = rows.into_iter().collect::<Result<Vec<_>, _>>();
        let mut policies = policies.map_err(StoreError::Sql)?;
        policies.sort_by(|one, other| one.handle.cmp(&other.handle));
        Ok(policies)
    }

    /// A policy.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_policy(&self, name: &str) -> Result<Option<StoredPolicy>, Error> {
        let sql = "SELECT name, document, created_at, updated_at FROM policies WHERE name = $1";
        let name = name.to_owned();
        self.read(move |connection| {
            let name = name.clone();
            Box::pin(async move { fetch_optional!(connection, StoredPolicy, sql, name) })
        })
        .await
    }

    /// Makes policies, or puts them in the place of those of the same name: all of them or none. They
    /// are pairs of name and document.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where there would be too many; or when storage fails.
    pub async fn apply_policies(
        &self,
        policies: Vec<(String, String)>,
        now: Timestamp,
    ) -> Result<Vec<Applied>, Error> {
        self.write(move |tx| {
            let policies = policies.clone();
            Box::pin(async move {
                bump(tx).await?;
                let mut applied = Vec::new();
                for (name, document) in &policies {
                    applied.push(apply(tx, name, document, now).await?);
                }
                let count = "SELECT COUNT(*) FROM policies";
                refuse_more_than(tx, MAX_POLICIES, count, "policies").await?;
                Ok(applied)
            })
        })
        .await
    }

    /// Removes a policy; `false` where there is none of that name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_policy(&self, name: &str) -> Result<bool, Error> {
        let name = name.to_owned();
        self.write(move |tx| {
            let name = name.clone();
            Box::pin(async move {
                bump(tx).await?;
                let sql = "DELETE FROM policies WHERE name = $1";
                only_one(execute!(&mut tx.connection, sql, name)?)
            })
        })
        .await
    }

    /// Removes a policy by its row, which need not be one that can be read; `false` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_policy_row(&self, row: RowHandle) -> Result<bool, Error> {
        self.write(move |tx| {
            let row = row.clone();
            Box::pin(async move {
                let [name] = row.columns() else { return Ok(false) };
                bump(tx).await?;
                let sql = delete_by_bytes!(tx.connection, "policies", "name" = "$1");
                only_one(execute!(&mut tx.connection, sql, name)?)
            })
        })
        .await
    }

    /// The members of all groups, those too whose row holds no text.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_group_members(&self) -> Result<Vec<MemberRow>, Error> {
        let sql = "SELECT group_urn, member_urn FROM group_members";
        let rows = self
            .read(|connection| Box::pin(async move { fetch_each!(connection, MemberRow, sql) }))
            .await?;
        let members = rows.into_iter().collect::<Result<Vec<_>, _>>();
        let mut members = members.map_err(StoreError::Sql)?;
        members.sort_by(|one, other| one.handle.cmp(&other.handle));
        Ok(members)
    }

    /// Adds members to a group, and gives the number of those who were none.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where there would be too many; or when storage fails.
    pub async fn add_group_members(
        &self,
        group: IdentityUrn,
        members: Vec<IdentityUrn>,
        now: Timestamp,
    ) -> Result<u64, Error> {
        self.write(move |tx| {
            let (group, members) = (group.clone(), members.clone());
            Box::pin(async move {
                bump(tx).await?;
                let mut added = 0;
                for member in &members {
                    let sql = "INSERT INTO group_members (group_urn, member_urn, created_at) \
                               VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                    let (group, member) = (group.as_str(), member.as_str());
                    added += execute!(&mut tx.connection, sql, group, member, now.as_millis())?;
                }
                let count = "SELECT COUNT(*) FROM group_members";
                refuse_more_than(tx, MAX_GROUP_MEMBERS, count, "members of groups").await?;
                Ok(added)
            })
        })
        .await
    }

    /// Takes members out of a group, and gives the number of those who were members.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn remove_group_members(
        &self,
        group: IdentityUrn,
        members: Vec<IdentityUrn>,
    ) -> Result<u64, Error> {
        self.write(move |tx| {
            let (group, members) = (group.clone(), members.clone());
            Box::pin(async move {
                bump(tx).await?;
                let mut removed = 0;
                for member in &members {
                    let sql = "DELETE FROM group_members WHERE group_urn = $1 AND member_urn = $2";
                    let (group, member) = (group.as_str(), member.as_str());
                    removed += execute!(&mut tx.connection, sql, group, member)?;
                }
                Ok(removed)
            })
        })
        .await
    }

    /// Takes all members out of a group, and gives their number. Any text is taken for a group, so that
    /// a damaged row can be removed.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_group(&self, group: &str) -> Result<u64, Error> {
        let group = group.to_owned();
        self.write(move |tx| {
            let group = group.clone();
            Box::pin(async move {
                bump(tx).await?;
                let sql = "DELETE FROM group_members WHERE group_urn = $1";
                Ok(execute!(&mut tx.connection, sql, group)?)
            })
        })
        .await
    }

    /// Removes a membership by its row, which need not be one that can be read; `false` where there is
    /// none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_member_row(&self, row: RowHandle) -> Result<bool, Error> {
        self.write(move |tx| {
            let row = row.clone();
            Box::pin(async move {
                let [group, member] = row.columns() else { return Ok(false) };
                bump(tx).await?;
                let sql = delete_by_bytes!(
                    tx.connection,
                    "group_members",
                    "group_urn" = "$1",
                    "member_urn" = "$2"
                );
                only_one(execute!(&mut tx.connection, sql, group, member)?)
            })
        })
        .await
    }
}

/// Whether a row was removed. On SQLite the bytes of a damaged one may be those of the text of a sound one, which
/// must not go with it.
fn only_one(rows: u64) -> Result<bool, StoreError> {
    if rows > 1 {
        let text =
            "more than one row has these bytes: delete the one that can be read by its name first";
        return Err(Error::malformed(text).into());
    }
    Ok(rows == 1)
}

/// Says to all servers that policies or groups have changed. On PostgreSQL it also is the lock under
/// which one change follows the other, so it comes first.
async fn bump(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.wrote = true;
    execute!(&mut tx.connection, "UPDATE revisions SET iam = iam + 1 WHERE id = 1")?;
    Ok(())
}

async fn apply(
    tx: &mut Tx<'_>,
    name: &str,
    document: &str,
    now: Timestamp,
) -> Result<Applied, StoreError> {
    // The document that is there is not read: it may be damaged, and this is how it is mended.
    let sql = "SELECT CAST(CASE WHEN document = $2 THEN 1 ELSE 0 END AS BIGINT) FROM policies \
               WHERE name = $1";
    let row = fetch_optional!(&mut tx.connection, (i64,), sql, name, document)?;
    let applied = match row {
        None => Applied::Created,
        Some((1,)) => return Ok(Applied::Unchanged),
        Some(_) => Applied::Replaced,
    };
    execute!(
        &mut tx.connection,
        "INSERT INTO policies (name, document, created_at, updated_at) VALUES ($1, $2, $3, $3) \
         ON CONFLICT (name) DO UPDATE SET document = excluded.document, \
         updated_at = excluded.updated_at",
        name,
        document,
        now.as_millis(),
    )?;
    Ok(applied)
}

async fn refuse_more_than(
    tx: &mut Tx<'_>,
    limit: u32,
    count: &'static str,
    what: &str,
) -> Result<(), StoreError> {
    let row = fetch_optional!(&mut tx.connection, (i64,), count)?;
    if row.is_some_and(|(found,)| found > i64::from(limit)) {
        return Err(Error::malformed(format!("a store has at most {limit} {what}")).into());
    }
    Ok(())
}
