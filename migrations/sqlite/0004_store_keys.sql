-- A key between the root keys and the keys of domains: it is wrapped once for each root key, so that
-- either of two opens the store, and changing a root key does not touch the rest. This migration only
-- makes room; the program wraps the keys anew when it next opens the store, because it takes a root key.
CREATE TABLE store_keys (
    store_key_id TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

-- Both are NULL until the root key has opened the store with the new program.
ALTER TABLE root_keys ADD COLUMN store_key_id TEXT REFERENCES store_keys (store_key_id);
ALTER TABLE root_keys ADD COLUMN wrapped_store_key BLOB;

-- A key whose `store_key_id` is NULL is still wrapped by the root key itself.
ALTER TABLE domain_keys RENAME TO domain_keys_before;
CREATE TABLE domain_keys (
    key_id INTEGER NOT NULL PRIMARY KEY,
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    generation INTEGER NOT NULL CHECK (generation > 0),
    store_key_id TEXT REFERENCES store_keys (store_key_id),
    wrapped_key BLOB NOT NULL,
    uses INTEGER NOT NULL CHECK (uses >= 0),
    created_at INTEGER NOT NULL,
    UNIQUE (okms_id, generation)
) STRICT;
INSERT INTO domain_keys (okms_id, generation, wrapped_key, uses, created_at)
    SELECT okms_id, generation, wrapped_key, uses, created_at FROM domain_keys_before
    ORDER BY okms_id, generation;
DROP TABLE domain_keys_before;

-- The key of a secret's own row: the newest of its domain when the row was last written.
ALTER TABLE secrets ADD COLUMN key_id INTEGER REFERENCES domain_keys (key_id);
UPDATE secrets SET key_id = (
    SELECT k.key_id FROM domain_keys k WHERE k.okms_id = secrets.okms_id ORDER BY k.generation DESC LIMIT 1
);

-- The key that sealed the data. The check also keeps a server of before this migration from adding data
-- whose key nobody knows to be in use. Bytes 2 to 5 of sealed data are the generation of its key; where
-- they are damaged, the data opens under no key, and the row gets the newest.
ALTER TABLE secret_versions RENAME TO secret_versions_before;
CREATE TABLE secret_versions (
    secret_id INTEGER NOT NULL REFERENCES secrets (secret_id) ON DELETE CASCADE,
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 24000),
    created_at INTEGER NOT NULL,
    deactivated_at INTEGER,
    sealed_data BLOB,
    key_id INTEGER REFERENCES domain_keys (key_id),
    PRIMARY KEY (secret_id, version),
    CHECK ((sealed_data IS NULL) = (key_id IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO secret_versions (secret_id, version, created_at, deactivated_at, sealed_data, key_id)
    SELECT v.secret_id, v.version, v.created_at, v.deactivated_at, v.sealed_data,
    CASE WHEN v.sealed_data IS NOT NULL THEN COALESCE((
        SELECT k.key_id FROM domain_keys k WHERE k.okms_id = s.okms_id
        AND lower(hex(substr(v.sealed_data, 2, 4))) = printf('%08x', k.generation)
    ), s.key_id) END
    FROM secret_versions_before v JOIN secrets s ON s.secret_id = v.secret_id;
DROP TABLE secret_versions_before;

-- Does anything still use this key?
CREATE INDEX secrets_by_key ON secrets (key_id, secret_id);
CREATE INDEX secret_versions_by_key ON secret_versions (key_id, secret_id);
