//! Rows made by hand, as the server would have made them.

use okmsd::{
    crypto::{DomainKey, KeyId, RootKey, StoreKey},
    domain::{OkmsId, SecretPath, VersionId},
};

use super::{Engine, Server};

impl Server {
    /// Proves all rows of a domain as they stand, with keys that a hand in the database does not have.
    pub async fn prove_rows(&self, okms_id: OkmsId) {
        let (key_id, key) = self.newest_key(okms_id).await;
        let (key_id, text) =
            (key_id.as_i64(), |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8"));
        for path in self
            .database
            .texts(&format!("SELECT path FROM secrets WHERE okms_id = '{okms_id}'"))
            .await
        {
            let path = SecretPath::parse(&text(path)).expect("a path");
            let found =
                self.store.find_secret(okms_id, &path, None, false, None).await.expect("a row");
            let record = &found.as_ref().expect("a secret").secret.record;
            let row = format!("okms_id = '{okms_id}' AND path = '{}'", path.as_str());
            let mac = self.bytes_literal(key.secret_mac(record).as_bytes());
            let sql = format!("UPDATE secrets SET key_id = {key_id}, mac = {mac} WHERE {row}");
            assert_eq!(self.database.execute(&sql).await, 1);
            let secret_id = format!("secret_id = (SELECT secret_id FROM secrets WHERE {row})");
            let numbers = format!("SELECT version FROM secret_versions WHERE {secret_id}");
            for number in self.database.texts(&numbers).await {
                let number: u32 = text(number).parse().expect("a number");
                let version = VersionId::new(number).expect("a version");
                let found =
                    self.store.find_secret(okms_id, &path, Some(version), false, None).await;
                let found = found.expect("a row").expect("a secret");
                let version = found.version.as_ref().expect("a version");
                let mac = key.version_mac(&version.record, &path, record.incarnation);
                let sql = format!(
                    "UPDATE secret_versions SET mac_key_id = {key_id}, mac = {} \
                     WHERE version = {number} AND {secret_id}",
                    self.bytes_literal(mac.as_bytes())
                );
                assert_eq!(self.database.execute(&sql).await, 1);
            }
        }
    }

    /// The newest key of a domain, unwrapped.
    pub async fn newest_key(&self, okms_id: OkmsId) -> (KeyId, DomainKey) {
        let root = RootKey::from_text(&self.root_key).expect("a root key");
        let slots = self.store.list_root_keys().await.expect("root keys");
        let slot = slots.into_iter().find(|slot| slot.root_key_id == *root.id());
        let wrapped = slot.and_then(|slot| slot.store_key).expect("a store key");
        let store_key = StoreKey::unwrap(&wrapped.wrapped, &wrapped.id, &root).expect("to unwrap");
        let mut keys = self.store.list_keys(okms_id).await.expect("keys").keys;
        let stored = keys.remove(0);
        let key = store_key.unwrap_domain_key(&stored.wrapped_key, okms_id, stored.generation);
        (stored.key_id, key.expect("to unwrap"))
    }

    /// Bytes as SQL writes them.
    pub fn bytes_literal(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.engine {
            Engine::Sqlite => format!("X'{hex}'"),
            Engine::Postgres => format!(r"'\x{hex}'"),
        }
    }
}
