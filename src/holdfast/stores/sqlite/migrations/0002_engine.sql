-- Queues, objects, waiting for others, limits, schedules. Runs in one transaction with the change of user_version.
-- Never edited after a release: a change is a new file.

ALTER TABLE invocation ADD COLUMN began INTEGER;
ALTER TABLE invocation ADD COLUMN key TEXT;
ALTER TABLE invocation ADD COLUMN lock TEXT;
ALTER TABLE invocation ADD COLUMN lane TEXT;
ALTER TABLE invocation ADD COLUMN parent INTEGER;
ALTER TABLE invocation ADD COLUMN call TEXT;
ALTER TABLE invocation ADD COLUMN build TEXT NOT NULL DEFAULT '';
ALTER TABLE invocation ADD COLUMN origin TEXT;

-- Schema 1 knew no queue: whatever it started could begin at once.
UPDATE invocation SET began = created WHERE status <> 2;

DROP INDEX invocation_ready;
DROP INDEX invocation_wake;

-- All partial but the last, so that a row is in those only that somebody will look it up by: a plain start is in ready
-- and target. n is not named where it comes last, as it is the table's own key and ends every index entry anyway.
CREATE INDEX invocation_ready ON invocation (n)
WHERE status = 0 OR (status = 2 AND wake_at IS NULL AND lock IS NULL AND lane IS NULL);
CREATE INDEX invocation_wake ON invocation (wake_at) WHERE status IN (1, 2) AND wake_at IS NOT NULL;
-- Two for a lock and two for a lane: who holds one is found without passing those who wait for it.
CREATE INDEX invocation_lock_held ON invocation (lock)
WHERE lock IS NOT NULL AND began IS NOT NULL AND status IN (0, 1, 3);
CREATE INDEX invocation_lock_queued ON invocation (lock, updated)
WHERE lock IS NOT NULL AND status = 2 AND wake_at IS NULL;
CREATE INDEX invocation_lane_running ON invocation (lane, status) WHERE lane IS NOT NULL AND status < 2;
CREATE INDEX invocation_lane_queued ON invocation (lane, updated)
WHERE lane IS NOT NULL AND status = 2 AND wake_at IS NULL;
CREATE INDEX invocation_parent ON invocation (parent) WHERE parent IS NOT NULL;
CREATE INDEX invocation_key ON invocation (key) WHERE key IS NOT NULL;
CREATE INDEX invocation_ended ON invocation (updated) WHERE status >= 4;
-- Not READY, which has its own, and not DONE, which most rows are: any page of the table is full of them.
CREATE INDEX invocation_status ON invocation (status) WHERE status IN (1, 2, 3, 5, 6, 7);
CREATE INDEX invocation_target ON invocation (target);

CREATE TABLE state (
    service TEXT NOT NULL,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;

-- Appended in order of commit, as entry is and for the same reason.
CREATE TABLE item (
    lsn     INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    idx     INTEGER NOT NULL,
    body    BLOB NOT NULL,
    UNIQUE (service, key, name, idx)
) STRICT;

CREATE TABLE waiter (
    subject TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (subject, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX waiter_of ON waiter (n);

CREATE TABLE rate (
    lane TEXT PRIMARY KEY,
    at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
    id      TEXT PRIMARY KEY,
    target  TEXT NOT NULL,
    body    BLOB NOT NULL,
    next_at INTEGER,
    paused  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
