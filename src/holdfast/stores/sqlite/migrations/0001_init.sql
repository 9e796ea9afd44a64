-- The first schema. Runs in one transaction with the change of user_version. Never edited: a change is a new file.
-- All tables are STRICT; times are integer milliseconds since 1970, UTC.

-- 'opens': how often the store was opened.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- Written at start and when the status moves, never per step.
CREATE TABLE invocation (
    n       INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    target  TEXT NOT NULL,
    status  INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    seed    INTEGER NOT NULL,
    wake_at INTEGER,
    input   BLOB NOT NULL,
    outcome BLOB
) STRICT;

-- Partial, so that sleeping and ended invocations cost the running ones nothing.
CREATE INDEX invocation_ready ON invocation (n) WHERE status = 0;
CREATE INDEX invocation_wake ON invocation (wake_at) WHERE status = 1 AND wake_at IS NOT NULL;

-- Appended in order of commit: big bodies never split pages. The index keeps (n, seq) unique, which is also the guard
-- against two writers of one invocation. As the table's own key it would cost random inserts of whole bodies.
CREATE TABLE entry (
    lsn  INTEGER PRIMARY KEY,
    n    INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (n, seq)
) STRICT;

-- digest before body: reading it never touches the pages a large body overflows to.
CREATE TABLE blob (
    lsn    INTEGER PRIMARY KEY,
    owner  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body   BLOB NOT NULL,
    UNIQUE (owner, number)
) STRICT;

CREATE TABLE promise (
    lsn     INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    n       INTEGER NOT NULL,
    created INTEGER NOT NULL,
    about   BLOB NOT NULL,
    status  INTEGER NOT NULL,
    settled INTEGER,
    value   BLOB
) STRICT;

CREATE INDEX promise_of ON promise (n);
CREATE INDEX promise_open ON promise (created) WHERE status = 0;
