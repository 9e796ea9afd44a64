-- Every statement of the SQLite store, by name. {values} becomes VALUES (?, ...), ... with as many rows as are written
-- at once; a row whose first value is NULL is padding and changes nothing (writes.py says why).
-- OR ROLLBACK: a broken rule ends the whole transaction, so SQLite need not be able to undo a single statement.

-- name: add_starts
-- New invocations.
INSERT OR ROLLBACK INTO invocation (n, id, target, status, created, updated, seed, wake_at, input, outcome)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL;

-- name: add_entries
-- Journal entries; UNIQUE (n, seq) refuses a second writer.
INSERT OR ROLLBACK INTO entry (n, seq, body)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL;

-- name: add_blobs
-- Large values.
INSERT OR ROLLBACK INTO blob (owner, number, digest, body)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL;

-- name: add_promises
-- Promises, open or settled at once.
INSERT OR ROLLBACK INTO promise (id, n, created, about, status, settled, value)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL;

-- name: move
-- Changes of status. At most one row of {values} per invocation: with two, UPDATE FROM takes either.
UPDATE OR ROLLBACK invocation
SET status = column2, updated = column3, wake_at = column4, outcome = column5
FROM ({values}) WHERE n = column1;

-- name: settle
-- Settles promises that are still open.
UPDATE OR ROLLBACK promise
SET status = column2, settled = column3, value = column4
FROM ({values}) WHERE id = column1 AND status = 0;

-- name: count_open
-- The first write of every open (opening.py says why).
INSERT INTO meta (key, value) VALUES ('opens', 1)
ON CONFLICT (key) DO UPDATE SET value = value + 1;

-- name: last_number
-- The largest n, one step in the table's own tree.
SELECT coalesce(max(n), 0) FROM invocation;

-- name: find
-- One invocation by its id.
SELECT n, id, target, status, created, updated, seed, wake_at, input, outcome FROM invocation WHERE id = ?;

-- name: get
-- One invocation by its number.
SELECT n, id, target, status, created, updated, seed, wake_at, input, outcome FROM invocation WHERE n = ?;

-- name: entries
-- One journal.
SELECT body FROM entry WHERE n = ? ORDER BY seq;

-- name: ready
-- What can run. INDEXED BY makes a lost index an error instead of a scan over all sleepers.
SELECT n FROM invocation INDEXED BY invocation_ready WHERE status = 0 ORDER BY n LIMIT ?;

-- name: due
-- Whose time has come, earliest first.
SELECT wake_at, n FROM invocation INDEXED BY invocation_wake
WHERE status = 1 AND wake_at IS NOT NULL AND wake_at <= ? ORDER BY wake_at, n LIMIT ?;

-- name: next_wake
-- The earliest deadline of all.
SELECT wake_at FROM invocation INDEXED BY invocation_wake
WHERE status = 1 AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1;

-- name: blob_digests
-- What an owner has stored, without the bodies.
SELECT number, digest FROM blob WHERE owner = ? ORDER BY number;

-- name: blobs
-- A run of an owner's large values.
SELECT number, body FROM blob WHERE owner = ? AND number BETWEEN ? AND ? ORDER BY number;

-- name: promise
-- One promise.
SELECT id, n, created, about, status, settled, value FROM promise WHERE id = ?;

-- name: promises_of
-- All promises of one invocation, in order of creation.
SELECT id, n, created, about, status, settled, value FROM promise INDEXED BY promise_of WHERE n = ? ORDER BY lsn;

-- name: open_promises
-- What waits for somebody, oldest first.
SELECT id, n, created, about, status, settled, value FROM promise INDEXED BY promise_open
WHERE status = 0 ORDER BY created, lsn LIMIT ?;

-- name: list
-- One page of invocations, newest first, from a number downwards.
SELECT n, id, target, status, created, updated, seed, wake_at, input, outcome FROM invocation
WHERE n < ?1 AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR target = ?3)
ORDER BY n DESC LIMIT ?4;
