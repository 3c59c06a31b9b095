-- How many secrets a domain has: to count them for each new one would take the longer the more there are. The sum of
-- the parts counts; there are several so that writers of different secrets do not wait for each other.
CREATE TABLE secret_counts (
    okms_id TEXT NOT NULL REFERENCES domains (okms_id) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    secrets INTEGER NOT NULL,
    PRIMARY KEY (okms_id, part)
) STRICT, WITHOUT ROWID;
INSERT INTO secret_counts (okms_id, part, secrets)
SELECT okms_id, 0, COUNT(*) FROM secrets GROUP BY okms_id;
