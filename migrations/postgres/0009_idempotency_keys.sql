-- What was answered to creating writes that came with an Idempotency-Key, for a day: so whoever asks again gets
-- that answer, and no second version. `key_hash` is SHA-256 of domain, caller and key, `caller` of the caller.
-- `sealed_outcome` is under the key `key_id` and holds the answer and a hash of the request, never data. `number`
-- counts the keys of a caller, so that how many there are is the distance between the first and the last.
CREATE TABLE idempotency_keys (
    key_hash BYTEA NOT NULL PRIMARY KEY,
    okms_id TEXT COLLATE "C" NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    caller BYTEA NOT NULL,
    number BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    key_id BIGINT NOT NULL REFERENCES domain_keys (key_id),
    sealed_outcome BYTEA NOT NULL
);

CREATE INDEX idempotency_keys_by_caller ON idempotency_keys (okms_id, caller, number);
-- Those that are over are removed.
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
-- Does anything still use this key?
CREATE INDEX idempotency_keys_by_key ON idempotency_keys (key_id);
