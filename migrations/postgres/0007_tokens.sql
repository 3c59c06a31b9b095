-- Tokens, which callers send with a request. A token itself is never in the database, only its SHA-256: with
-- 256 random bits in it, nobody finds it from that.

-- `bound_fingerprint` is SHA-256 of the certificate (DER) without which the token does not count, for the
-- short-lived tokens that a certificate asks for itself; `credential_id` is the credential of that certificate,
-- if it has one. Both are NULL for personal access tokens.
CREATE TABLE tokens (
    token_id TEXT NOT NULL PRIMARY KEY,
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    token_hash BYTEA NOT NULL UNIQUE,
    identity_urns TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    bound_fingerprint BYTEA,
    credential_id TEXT REFERENCES credentials (credential_id) ON DELETE CASCADE,
    mac BYTEA NOT NULL
);

CREATE INDEX tokens_by_domain ON tokens (okms_id, token_id);
CREATE INDEX tokens_by_credential ON tokens (credential_id);

-- The key of the MACs of tokens, wrapped by the store key: without it, nobody who can write here makes a token,
-- or gives one another identity or a later end.
CREATE TABLE token_keys (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    store_key_id TEXT NOT NULL REFERENCES store_keys (store_key_id),
    wrapped_key BYTEA NOT NULL
);

-- Short-lived tokens that are over are removed, and so are the oldest of many of one certificate.
CREATE INDEX tokens_by_certificate ON tokens (bound_fingerprint, created_at) WHERE bound_fingerprint IS NOT NULL;
CREATE INDEX tokens_by_end ON tokens (expires_at) WHERE bound_fingerprint IS NOT NULL;
