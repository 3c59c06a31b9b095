-- Does anything still use this key, and what? By time, a new version comes behind all others under its key. By secret,
-- each had a place of its own in both indexes, and a page to be written for it. This reads all versions twice.
CREATE INDEX secret_versions_by_key_and_time ON secret_versions (key_id, created_at, secret_id, version);
CREATE INDEX secret_versions_by_mac_key_and_time ON secret_versions (mac_key_id, created_at, secret_id, version);
DROP INDEX secret_versions_by_key;
DROP INDEX secret_versions_by_mac_key;
