-- Times are milliseconds UTC, flags are 0 or 1, ids are text. A migration is never edited once it
-- is released; a wrong one is followed by a right one.

-- Root keys that wrap domain keys here. The keys themselves are never in the database. Of two processes
-- that bring a new database two different keys, the slot lets only one be first.
CREATE TABLE root_keys (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot IN (1, 2)),
    root_key_id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE domains (
    okms_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    cas_required INTEGER NOT NULL CHECK (cas_required IN (0, 1)),
    max_versions INTEGER NOT NULL CHECK (max_versions BETWEEN 0 AND 24000),
    deactivate_version_after TEXT NOT NULL
) STRICT;

-- Keys of domains, wrapped. `uses` counts the seals that processes have set aside for themselves.
CREATE TABLE domain_keys (
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    generation INTEGER NOT NULL CHECK (generation > 0),
    root_key_id TEXT NOT NULL REFERENCES root_keys (root_key_id),
    wrapped_key BLOB NOT NULL,
    uses INTEGER NOT NULL CHECK (uses >= 0),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (okms_id, generation)
) STRICT;

CREATE TABLE credentials (
    credential_id TEXT NOT NULL PRIMARY KEY,
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    identity_urns TEXT NOT NULL,
    from_csr INTEGER NOT NULL CHECK (from_csr IN (0, 1)),
    certificate_pem TEXT NOT NULL,
    fingerprint BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX credentials_by_domain ON credentials (okms_id, credential_id);

CREATE TABLE secrets (
    secret_id INTEGER NOT NULL PRIMARY KEY,
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    cas_required INTEGER NOT NULL CHECK (cas_required IN (0, 1)),
    max_versions INTEGER NOT NULL CHECK (max_versions BETWEEN 0 AND 24000),
    deactivate_version_after TEXT NOT NULL,
    custom_metadata TEXT NOT NULL,
    current_version INTEGER NOT NULL CHECK (current_version BETWEEN 0 AND 24000),
    oldest_version INTEGER NOT NULL CHECK (oldest_version BETWEEN 0 AND 24000),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT secrets_path_unique UNIQUE (okms_id, path)
) STRICT;

-- `deactivated_at` may lie in the future. A version without data is deleted.
CREATE TABLE secret_versions (
    secret_id INTEGER NOT NULL REFERENCES secrets (secret_id) ON DELETE CASCADE,
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 24000),
    created_at INTEGER NOT NULL,
    deactivated_at INTEGER,
    sealed_data BLOB,
    PRIMARY KEY (secret_id, version)
) STRICT, WITHOUT ROWID;
