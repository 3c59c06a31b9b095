-- The key of the MACs of tokens is replaced with the store key, and each token says which one its MAC is of: so
-- who finds one of a key that is not known reads the key anew. The first key got no name when it was made.
ALTER TABLE token_keys ADD COLUMN token_key_id TEXT NOT NULL DEFAULT 'first';
ALTER TABLE tokens ADD COLUMN token_key_id TEXT NOT NULL DEFAULT 'first';
