//! Proving the rows of a store of before, once.
//!
//! Before rows had proofs, nothing told a changed row from an honest one: what the program finds when it
//! first opens such a store is what counts from then on. When all rows of a domain have their proofs, the
//! keys of the domain are wrapped anew with the statement that this is so; a row without a proof is then a
//! damaged one, and is never given a proof again. Serving begins after that, so no request takes an unproven
//! row.
//!
//! A process that ends on the way leaves the rest to the next one. No program of before may be at work on the
//! store meanwhile, or later: it would leave rows without proofs.

use std::collections::HashMap;

use super::{Keyring, keyring::Sealer};
use crate::{
    domain::{Error, OkmsId},
    store::{NewProof, UnprovenSecret, UnprovenVersion},
};

impl Keyring {
    /// Proves all rows of those of some domains whose keys do not state that they are proven.
    pub(super) async fn prove_old_rows(&self, of: &[OkmsId]) -> Result<(), Error> {
        let mut domains = HashMap::new();
        for okms_id in of {
            match self.newest(*okms_id, 0).await {
                Ok(sealer) if sealer.keys().rows_are_proven() => {}
                Ok(sealer) => _ = domains.insert(*okms_id, sealer),
                // Deleted meanwhile.
                Err(Error::DomainNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if domains.is_empty() {
            return Ok(());
        }
        tracing::info!(domains = domains.len(), "proving the rows of a store of before");
        let versions = self.prove_versions(&domains).await?;
        let secrets = self.prove_secrets(&domains).await?;
        for okms_id in domains.keys() {
            self.state_rows_proven(*okms_id).await?;
        }
        tracing::info!(secrets, versions, "the rows of the store are proven");
        Ok(())
    }

    async fn prove_versions(&self, domains: &HashMap<OkmsId, Sealer>) -> Result<u64, Error> {
        let (mut after, mut proven) = ((i64::MIN, i64::MIN), 0);
        loop {
            let page = self.store.list_unproven_versions(after, ROWS_PER_STEP).await?;
            let Some(last) = page.last else { return Ok(proven) };
            let proof = |row: &UnprovenVersion, sealer: &Sealer| {
                let record = &row.record;
                NewProof {
                    secret_id: row.secret_id,
                    version: Some(record.version.id.get()),
                    key_id: sealer.key_id(),
                    mac: sealer.key().version_mac(record, &row.path, row.incarnation),
                }
            };
            let rows = page.rows.into_iter().filter_map(readable);
            let proofs = rows.filter_map(|row| Some(proof(&row, domains.get(&row.okms_id)?)));
            proven += self.prove(proofs.collect()).await?;
            after = last;
        }
    }

    async fn prove_secrets(&self, domains: &HashMap<OkmsId, Sealer>) -> Result<u64, Error> {
        let (mut after, mut proven) = (i64::MIN, 0);
        loop {
            let page = self.store.list_unproven_secrets(after, ROWS_PER_STEP).await?;
            let Some(last) = page.last else { return Ok(proven) };
            let proof = |row: &UnprovenSecret, sealer: &Sealer| NewProof {
                secret_id: row.secret_id,
                version: None,
                key_id: sealer.key_id(),
                mac: sealer.key().secret_mac(&row.record),
            };
            let rows = page.rows.into_iter().filter_map(readable);
            let proofs = rows.filter_map(|row| Some(proof(&row, domains.get(&row.okms_id)?)));
            proven += self.prove(proofs.collect()).await?;
            after = last;
        }
    }

    async fn prove(&self, proofs: Vec<NewProof>) -> Result<u64, Error> {
        let count = proofs.len() as u64;
        if count > 0 {
            self.store.prove_rows(proofs).await?;
        }
        Ok(count)
    }

    /// Where another process has wrapped a key anew meanwhile, the next open does the rest.
    async fn state_rows_proven(&self, okms_id: OkmsId) -> Result<(), Error> {
        let store_key = self.store_key();
        for stored in self.store.list_keys(okms_id).await?.keys {
            let (wrapped, generation) = (stored.wrapped_key, stored.generation);
            if let Ok(new) = store_key.state_rows_proven(&wrapped, okms_id, generation) {
                self.store.replace_wrapping(stored.key_id, wrapped, new).await?;
            }
        }
        self.forget(okms_id);
        self.keys(okms_id, 0).await.map(|_| ())
    }
}

/// A row that cannot even be read gets no proof, and is an error to whoever asks for it.
fn readable<T>(row: Result<T, Error>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(?error, "a row of before is left without proof")).ok()
}

/// Rows read and written in one step: some tens of milliseconds, in which writers wait.
const ROWS_PER_STEP: u32 = 500;
