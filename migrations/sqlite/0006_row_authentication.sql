-- Rows of secrets and versions carry a MAC over everything that is used of them, under a key that is not in
-- the database. Rows of before get theirs when the program next opens the store, because it takes keys; from
-- then on a row without one is a damaged row.

-- `incarnation` tells a secret from those that were at its path before it. `state_changes` is how often the
-- state of each version was set, and NULL where none ever was. `mac` is under the key `key_id`.
ALTER TABLE secrets ADD COLUMN incarnation BLOB;
ALTER TABLE secrets ADD COLUMN state_changes BLOB;
ALTER TABLE secrets ADD COLUMN mac BLOB;

-- `state_changes` is how often the state of the version was set. `mac` is under the key `mac_key_id`: a
-- version keeps its MAC, and needs that key, when its data is deleted.
ALTER TABLE secret_versions ADD COLUMN state_changes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE secret_versions ADD COLUMN mac_key_id INTEGER REFERENCES domain_keys (key_id);
ALTER TABLE secret_versions ADD COLUMN mac BLOB;

UPDATE secrets SET incarnation = randomblob(16);

-- Does anything still use this key?
CREATE INDEX secret_versions_by_mac_key ON secret_versions (mac_key_id, secret_id);
