-- How often what every process keeps in memory has changed: policies and groups, keys of domains. Each
-- request reads this row with its credential. Whoever changes such a thing adds one in the same
-- transaction.
CREATE TABLE revisions (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    iam BIGINT NOT NULL,
    keys BIGINT NOT NULL
);

INSERT INTO revisions (id, iam, keys) VALUES (1, 0, 0);
