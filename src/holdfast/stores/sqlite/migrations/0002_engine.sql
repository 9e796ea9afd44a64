-- Queues, objects, waiting for others. Runs in one transaction with the change of user_version.
-- Never edited after a release: a change is a new file.

-- A READY one with a time would be taken up late.
UPDATE invocation SET wake_at = NULL WHERE status = 0;
ALTER TABLE invocation ADD COLUMN began INTEGER CHECK (status > 0 OR wake_at IS NULL);
ALTER TABLE invocation ADD COLUMN key TEXT;
ALTER TABLE invocation ADD COLUMN lock TEXT;
ALTER TABLE invocation ADD COLUMN lane TEXT;
ALTER TABLE invocation ADD COLUMN parent INTEGER;
ALTER TABLE invocation ADD COLUMN call TEXT;
ALTER TABLE invocation ADD COLUMN build TEXT NOT NULL DEFAULT '';
ALTER TABLE invocation ADD COLUMN origin TEXT;
ALTER TABLE invocation ADD COLUMN in_queue INTEGER NOT NULL DEFAULT 0;

-- Schema 1 knew no queue: whatever it started could begin at once.
UPDATE invocation SET began = created WHERE status <> 2;

DROP INDEX invocation_ready;
DROP INDEX invocation_wake;

-- All partial but the last, so that a row is in those only that somebody will look it up by: a plain start is in due
-- and target. n is not named where it comes last, as it is the table's own key and ends every index entry anyway. No
-- IN of more than two: SQLite makes a table of it at each write, which is half of what a write costs.
--
-- What the engine takes up of itself: at its time, or at once, when no time is set. NULL sorts first.
CREATE INDEX invocation_due ON invocation (wake_at)
WHERE status = 0 OR (status IN (1, 2) AND wake_at IS NOT NULL) OR (status = 2 AND lock IS NULL AND lane IS NULL);
-- Who has a lock or a place in a lane, and who waits for it, in order of arrival. The status comes first, so that
-- neither is found by passing the others.
CREATE INDEX invocation_lock ON invocation (status, lock, updated)
WHERE lock IS NOT NULL
AND ((status <> 2 AND status < 4 AND began IS NOT NULL AND in_queue = 0) OR (status = 2 AND wake_at IS NULL));
CREATE INDEX invocation_lane ON invocation (status, lane, updated)
WHERE lane IS NOT NULL AND (status < 2 OR (status = 2 AND wake_at IS NULL));
CREATE INDEX invocation_parent ON invocation (parent) WHERE parent IS NOT NULL;
CREATE INDEX invocation_key ON invocation (key) WHERE key IS NOT NULL;
CREATE INDEX invocation_ended ON invocation (updated) WHERE status >= 4;
-- Not READY, which are all in due, and not DONE, which most rows are: any page of the table is full of them.
CREATE INDEX invocation_status ON invocation (status) WHERE status <> 0 AND status <> 4;
CREATE INDEX invocation_target ON invocation (target);

-- Of objects; and, with service '', what the engine and the store keep for themselves from life to life.
CREATE TABLE state (
    service TEXT NOT NULL,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    ANY NOT NULL,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;

INSERT INTO state SELECT '', '', key, value FROM meta;
DROP TABLE meta;

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
