-- A credential can be the certificate of another authority, which an operator registered by its
-- fingerprint; only such a certificate counts for it.
ALTER TABLE credentials
    ADD COLUMN registered BIGINT NOT NULL DEFAULT 0 CHECK (registered IN (0, 1));
