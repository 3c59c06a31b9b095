-- What was answered to creating writes that came with an Idempotency-Key, for a day: so whoever asks again gets
-- that answer, and no second version. `key_hash` is SHA-256 of domain, caller and key, `caller` of the caller.
-- `sealed_outcome` is under the key `key_id` and holds the answer and a hash of the request, never data. `number`
-- counts the keys of a caller, so that how many there are is the distance between the first and the last.
CREATE TABLE idempotency_keys (
    key_hash BLOB NOT NULL PRIMARY KEY,
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    caller BLOB NOT NULL,
    number INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    key_id INTEGER NOT NULL REFERENCES domain_keys (key_id),
    sealed_outcome BLOB NOT NULL
) STRICT;

CREATE INDEX idempotency_keys_by_caller ON idempotency_keys (okms_id, caller, number);
-- Those that are over are removed.
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
-- Does anything still use this key?
CREATE INDEX idempotency_keys_by_key ON idempotency_keys (key_id);
