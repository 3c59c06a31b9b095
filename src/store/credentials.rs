//! Statements about credentials.

use std::sync::{Arc, OnceLock};

use sqlx::FromRow;

use super::{
    Store,
    connection::{execute, fetch_all, fetch_optional},
    domains::stored_region,
    line::InLine,
    row_cache::{Looked, RowCache},
    tokens::NO_MAC,
};
use crate::domain::{Credential, CredentialId, Error, OkmsId, Principal, Revisions, Timestamp};

/// A credential with what a request needs to know beside it.
#[derive(Debug)]
pub struct FoundCredential {
    /// The credential.
    pub credential: Credential,
    /// The region of its domain.
    pub region: String,
    /// As of now.
    pub revisions: Revisions,
    /// Who calls with it.
    pub caller: KnownCaller,
}

/// Who calls with a credential that is kept in memory, by the policies and groups of a revision.
#[derive(Debug, Default)]
pub struct KnownCaller(OnceLock<(i64, Arc<Principal>)>);

impl KnownCaller {
    /// The caller by policies and groups of this revision, made where it is not known yet.
    pub fn at(&self, revision: i64, make: impl FnOnce() -> Principal) -> Arc<Principal> {
        if let Some((known_at, known)) = self.0.get()
            && *known_at == revision
        {
            return Arc::clone(known);
        }
        let caller = Arc::new(make());
        if caller.identity_urns.len() <= MAX_KEPT_IDENTITIES {
            // One of another revision stays: the credential is read anew after a change, and this goes with it.
            let _first = self.0.set((revision, Arc::clone(&caller)));
        }
        caller
    }
}

/// Identities of a caller that is kept, groups included: 4 KiB at the most. Somebody may be in thousands of groups.
const MAX_KEPT_IDENTITIES: usize = 16;

/// What a request with the certificate of another authority needs to know.
#[derive(Debug, Clone)]
pub struct FoundExternal {
    /// The credential that the certificate is registered as.
    pub credential: Option<FoundRegistration>,
    /// The region of the domain.
    pub region: String,
    /// As of now.
    pub revisions: Revisions,
}

/// The credential of a certificate, as far as a request needs it.
#[derive(Debug, Clone)]
pub struct FoundRegistration {
    /// Its id.
    pub id: CredentialId,
    /// See [`Credential::okms_id`].
    pub okms_id: OkmsId,
    /// See [`Credential::registered`].
    pub registered: bool,
    /// See [`Credential::identity_urns`].
    pub identity_urns: Vec<String>,
    /// See [`Credential::expires_at`].
    pub expires_at: Timestamp,
    /// See [`Credential::revoked_at`].
    pub revoked_at: Option<Timestamp>,
}

/// The statement for rows of [`CredentialRow`].
macro_rules! select_credentials {
    ($which:literal) => {
        concat!(
            "SELECT c.credential_id, c.okms_id, c.name, c.description, c.identity_urns, \
             c.from_csr, c.registered, c.certificate_pem, c.fingerprint, c.created_at, c.expires_at, \
             c.revoked_at, d.region, r.iam AS iam_revision, r.keys AS keys_revision \
             FROM credentials c JOIN domains d ON d.okms_id = c.okms_id \
             JOIN revisions r ON r.id = 1 ",
            $which
        )
    };
}

impl Store {
    /// Makes a credential.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`], or when storage fails.
    pub async fn insert_credential(&self, credential: Credential) -> Result<(), Error> {
        self.insert_after(credential, None).await.map(|_| ())
    }

    /// Makes a credential that follows `old`, unless that is revoked by then, or gone: `false`.
    ///
    /// # Errors
    ///
    /// As [`Store::insert_credential`].
    pub async fn insert_successor(
        &self,
        credential: Credential,
        old: CredentialId,
    ) -> Result<bool, Error> {
        self.insert_after(credential, Some(old)).await
    }

    async fn insert_after(
        &self,
        credential: Credential,
        old: Option<CredentialId>,
    ) -> Result<bool, Error> {
        let identity_urns = serde_json::to_string(&credential.identity_urns)
            .map_err(|_| Error::Internal("identity URNs cannot be written as JSON".into()))?;
        self.write(move |tx| {
            let (credential, identity_urns) = (credential.clone(), identity_urns.clone());
            Box::pin(async move {
                tx.wrote = true;
                if let Some(old) = old {
                    // A write, so that a revocation comes before or after, never between.
                    let rows = execute!(
                        &mut tx.connection,
                        "UPDATE credentials SET revoked_at = NULL \
                         WHERE credential_id = $1 AND revoked_at IS NULL",
                        old.to_string()
                    )?;
                    if rows == 0 {
                        return Ok(false);
                    }
                }
                // From the domain's own row: where it is gone, nothing is inserted.
                let rows = execute!(
                    &mut tx.connection,
                    "INSERT INTO credentials (credential_id, okms_id, name, description, \
                     identity_urns, from_csr, certificate_pem, fingerprint, created_at, expires_at, \
                     registered) \
                     SELECT $1, okms_id, $3, $4, $5, CAST($6 AS BIGINT), $7, $8, CAST($9 AS BIGINT), \
                     CAST($10 AS BIGINT), CAST($11 AS BIGINT) \
                     FROM domains WHERE okms_id = $2",
                    credential.id.to_string(),
                    credential.okms_id.to_string(),
                    &credential.name,
                    &credential.description,
                    &identity_urns,
                    i64::from(credential.from_csr),
                    &credential.certificate_pem,
                    &credential.fingerprint[..],
                    credential.created_at.as_millis(),
                    credential.expires_at.as_millis(),
                    i64::from(credential.registered),
                )?;
                if rows == 0 { Err(Error::DomainNotFound.into()) } else { Ok(true) }
            })
        })
        .await
    }

    /// The credentials of a domain, the oldest first.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_credentials(&self, okms_id: OkmsId) -> Result<Vec<Credential>, Error> {
        let sql =
            select_credentials!("WHERE c.okms_id = $1 ORDER BY c.created_at, c.credential_id");
        let rows = self
            .read(move |connection| {
                Box::pin(
                    async move { fetch_all!(connection, CredentialRow, sql, okms_id.to_string()) },
                )
            })
            .await?;
        rows.into_iter().map(|row| row.into_credential().map(|found| found.credential)).collect()
    }

    /// A credential.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_credential(
        &self,
        id: CredentialId,
    ) -> Result<Option<(Arc<FoundCredential>, Option<Looked>)>, Error> {
        let cache = self.engine.cache();
        if let Some((kept, looked)) = cache.and_then(|cache| cache.credential(id)) {
            return Ok(Some((kept, Some(looked))));
        }
        let as_of = cache.and_then(RowCache::as_of);
        let place = self.engine.enter_line()?;
        let read = |place| self.read_credential(id, place);
        let found = self.callers.credentials.read(id, place, read).await?;
        if let (Some(cache), Some(as_of), Some(found)) = (cache, as_of, &found) {
            cache.keep_credential(as_of, Arc::clone(found));
        }
        Ok(found.map(|found| (found, None)))
    }

    async fn read_credential(
        &self,
        id: CredentialId,
        place: Option<InLine<'_>>,
    ) -> Result<Option<Arc<FoundCredential>>, Error> {
        let sql = select_credentials!("WHERE c.credential_id = $1");
        let row = self
            .read_from(place, move |connection| {
                Box::pin(
                    async move { fetch_optional!(connection, CredentialRow, sql, id.to_string()) },
                )
            })
            .await?;
        Ok(row.map(CredentialRow::into_credential).transpose()?.map(Arc::new))
    }

    /// The credential of a certificate.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_credential_of(
        &self,
        fingerprint: [u8; 32],
    ) -> Result<Option<FoundCredential>, Error> {
        let sql = select_credentials!("WHERE c.fingerprint = $1");
        let row = self
            .read(move |connection| {
                Box::pin(async move {
                    fetch_optional!(connection, CredentialRow, sql, &fingerprint[..])
                })
            })
            .await?;
        row.map(CredentialRow::into_credential).transpose()
    }

    /// What a request with the certificate of another authority needs to know: of the domain that the
    /// authority is bound to, and of the credential that the certificate may be registered as, in
    /// whichever domain that is. `None` where there is no such domain.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find_external(
        &self,
        okms_id: OkmsId,
        fingerprint: [u8; 32],
    ) -> Result<Option<FoundExternal>, Error> {
        let place = self.engine.enter_line()?;
        let read = |place| self.read_external(okms_id, fingerprint, place);
        self.callers.externals.read((okms_id, fingerprint), place, read).await
    }

    async fn read_external(
        &self,
        okms_id: OkmsId,
        fingerprint: [u8; 32],
        place: Option<InLine<'_>>,
    ) -> Result<Option<FoundExternal>, Error> {
        let sql = "SELECT c.credential_id, c.okms_id, c.identity_urns, c.registered, c.expires_at, \
                   c.revoked_at, d.region, r.iam AS iam_revision, r.keys AS keys_revision \
                   FROM domains d JOIN revisions r ON r.id = 1 \
                   LEFT JOIN credentials c ON c.fingerprint = $2 WHERE d.okms_id = $1";
        let row = self
            .read_from(place, move |connection| {
                Box::pin(async move {
                    let okms_id = okms_id.to_string();
                    fetch_optional!(connection, ExternalRow, sql, okms_id, &fingerprint[..])
                })
            })
            .await?;
        row.map(ExternalRow::into_external).transpose()
    }

    /// The credentials that are neither revoked nor expired at `now` and expire before `before`, the
    /// first to expire first; at most `limit`.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list_expiring(
        &self,
        now: Timestamp,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Credential>, Error> {
        let sql = select_credentials!(
            "WHERE c.revoked_at IS NULL AND c.expires_at > $1 AND c.expires_at < $2 \
             ORDER BY c.expires_at, c.credential_id LIMIT $3"
        );
        let rows = self
            .read(move |connection| {
                Box::pin(async move {
                    let (now, before) = (now.as_millis(), before.as_millis());
                    fetch_all!(connection, CredentialRow, sql, now, before, i64::from(limit))
                })
            })
            .await?;
        rows.into_iter().map(|row| row.into_credential().map(|found| found.credential)).collect()
    }

    /// Revokes a credential, once: a second revocation keeps the time of the first. `false` where
    /// there is none of that id.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn revoke_credential(&self, id: CredentialId, now: Timestamp) -> Result<bool, Error> {
        self.write(move |tx| {
            Box::pin(async move {
                tx.wrote = true;
                let rows = execute!(
                    &mut tx.connection,
                    "UPDATE credentials SET revoked_at = COALESCE(revoked_at, CAST($2 AS BIGINT)) \
                     WHERE credential_id = $1",
                    id.to_string(),
                    now.as_millis()
                )?;
                // They do not count without it anyway; so the list of tokens says it too, and they stay
                // revoked where somebody takes back what was done to the credential.
                execute!(
                    &mut tx.connection,
                    "UPDATE tokens SET revoked_at = COALESCE(revoked_at, CAST($2 AS BIGINT)), mac = $3 \
                     WHERE credential_id = $1",
                    id.to_string(),
                    now.as_millis(),
                    NO_MAC
                )?;
                Ok(rows > 0)
            })
        })
        .await
    }
}

#[derive(FromRow)]
struct CredentialRow {
    credential_id: String,
    okms_id: String,
    name: String,
    description: String,
    identity_urns: String,
    from_csr: i64,
    registered: i64,
    certificate_pem: String,
    fingerprint: Vec<u8>,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    region: String,
    iam_revision: i64,
    keys_revision: i64,
}

impl CredentialRow {
    fn into_credential(self) -> Result<FoundCredential, Error> {
        let broken = |what: &str| Error::Internal(format!("stored credential: {what}"));
        let credential = Credential {
            id: self.credential_id.parse().map_err(|_| broken("id"))?,
            okms_id: self.okms_id.parse().map_err(|_| broken("okmsId"))?,
            name: self.name,
            description: self.description,
            identity_urns: serde_json::from_str(&self.identity_urns)
                .map_err(|_| broken("identity URNs"))?,
            from_csr: self.from_csr != 0,
            registered: self.registered != 0,
            certificate_pem: self.certificate_pem,
            fingerprint: self.fingerprint.try_into().map_err(|_| broken("fingerprint"))?,
            created_at: Timestamp::from_millis(self.created_at),
            expires_at: Timestamp::from_millis(self.expires_at),
            revoked_at: self.revoked_at.map(Timestamp::from_millis),
        };
        let revisions = Revisions { iam: self.iam_revision, keys: self.keys_revision };
        let (region, caller) = (stored_region(self.region)?, KnownCaller::default());
        Ok(FoundCredential { credential, region, revisions, caller })
    }
}

/// The columns of a credential are all there or all NULL.
#[derive(FromRow)]
struct ExternalRow {
    credential_id: Option<String>,
    okms_id: Option<String>,
    identity_urns: Option<String>,
    registered: Option<i64>,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    region: String,
    iam_revision: i64,
    keys_revision: i64,
}

impl ExternalRow {
    fn into_external(self) -> Result<FoundExternal, Error> {
        let broken = |what: &str| Error::Internal(format!("stored credential: {what}"));
        let of_credential = (
            self.credential_id,
            self.okms_id,
            self.identity_urns,
            self.registered,
            self.expires_at,
        );
        let credential = match of_credential {
            (Some(id), Some(okms_id), Some(urns), Some(registered), Some(expires_at)) => {
                Some(FoundRegistration {
                    id: id.parse().map_err(|_| broken("id"))?,
                    okms_id: okms_id.parse().map_err(|_| broken("okmsId"))?,
                    registered: registered != 0,
                    identity_urns: serde_json::from_str(&urns)
                        .map_err(|_| broken("identity URNs"))?,
                    expires_at: Timestamp::from_millis(expires_at),
                    revoked_at: self.revoked_at.map(Timestamp::from_millis),
                })
            }
            _ => None,
        };
        let revisions = Revisions { iam: self.iam_revision, keys: self.keys_revision };
        Ok(FoundExternal { credential, region: stored_region(self.region)?, revisions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(identities: usize) -> Principal {
        Principal {
            credential_id: None,
            token_id: None,
            fingerprint: None,
            okms_id: OkmsId::new(uuid::Uuid::new_v4()),
            region: "eu-west-rbx".to_owned(),
            identity_urns: vec!["urn:v1:eu:identity:user:a".to_owned(); identities],
        }
    }

    #[test]
    fn a_caller_is_known_at_its_revision_alone() {
        let known = KnownCaller::default();
        let first = known.at(1, || caller(1));
        assert!(Arc::ptr_eq(&first, &known.at(1, || panic!("it is known"))));
        let other = known.at(2, || caller(2));
        assert_eq!((first.identity_urns.len(), other.identity_urns.len()), (1, 2));
        assert!(Arc::ptr_eq(&first, &known.at(1, || panic!("it is known"))));
    }

    #[test]
    fn a_caller_in_many_groups_is_not_kept() {
        for (identities, is_kept) in [(MAX_KEPT_IDENTITIES, true), (MAX_KEPT_IDENTITIES + 1, false)]
        {
            let known = KnownCaller::default();
            let first = known.at(1, || caller(identities));
            assert_eq!(Arc::ptr_eq(&first, &known.at(1, || caller(identities))), is_kept);
        }
    }
}
