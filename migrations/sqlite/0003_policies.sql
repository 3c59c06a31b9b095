-- Policies, as the documents that were applied; and who is a member of which group. Whoever changes
-- either adds one to `revisions.iam` in the same transaction.
CREATE TABLE policies (
    name TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE group_members (
    group_urn TEXT NOT NULL,
    member_urn TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (group_urn, member_urn)
) STRICT, WITHOUT ROWID;
