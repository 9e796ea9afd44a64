-- Every statement of the SQLite store, by name. {values} becomes VALUES (?, ...), ... with as many rows as are written
-- at once; a row whose first value is NULL is padding and changes nothing (writes.py says why).
-- OR ROLLBACK: a broken rule ends the whole transaction, so SQLite need not be able to undo a single statement.
-- {name} stands for the text of that name above it. INDEXED BY makes a lost index an error instead of a scan.

-- name: row
-- The columns of an InvocationRow.
n, id, target, status, created, updated, seed, wake_at, input, outcome,
began, key, lock, lane, parent, call, build, origin, in_queue;

-- name: page
-- What all lists ask beyond their index, from a number downwards. A parent (?6) always goes by its index.
n < ?1 AND (?2 IS NULL OR status = ?2) AND target BETWEEN ?3 AND ?4 AND (?5 IS NULL OR key = ?5)
ORDER BY n DESC LIMIT ?7;

-- name: is_due
-- The condition of invocation_due.
(status = 0 OR (status IN (1, 2) AND wake_at IS NOT NULL) OR (status = 2 AND lock IS NULL AND lane IS NULL));

-- name: at_lock
-- The condition of invocation_lock.
((status <> 2 AND status < 4 AND began IS NOT NULL AND in_queue = 0) OR (status = 2 AND wake_at IS NULL));

-- name: in_lane
-- The condition of invocation_lane.
(status < 2 OR (status = 2 AND wake_at IS NULL));

-- name: keep_last_number
-- Before a purge: a number is never given twice, since others may still name it as their parent.
INSERT INTO state (service, key, name, body) SELECT '', '', 'last_number', coalesce(max(n), 0) FROM invocation WHERE true
ON CONFLICT (service, key, name) DO UPDATE SET body = max(body, excluded.body);

-- name: purge_waiters
-- Who waited for them, while their ids are known.
DELETE FROM waiter WHERE subject IN (SELECT id FROM invocation WHERE n IN ({values}));

-- name: purge_invocations
-- Invocations, by number.
DELETE FROM invocation WHERE n IN ({values});

-- name: purge_entries
-- Their journals.
DELETE FROM entry WHERE n IN ({values});

-- name: purge_blobs
-- Their large values.
DELETE FROM blob WHERE owner IN ({values});

-- name: purge_promises
-- Their promises.
DELETE FROM promise WHERE n IN ({values});

-- name: forget_promises
-- Promises of workflows' keys. A key may have colons in it, a promise's name has none. By id: +n goes by no index.
DELETE FROM promise WHERE lsn IN (
    SELECT lsn FROM ({values}) CROSS JOIN promise
    WHERE id > column1 || ':' || column2 || ':' AND id < column1 || ':' || column2 || ';' AND +n = 0
    AND instr(substr(id, length(column1) + length(column2) + 3), ':') = 0
);

-- name: forget_states
-- Their values.
DELETE FROM state WHERE (service, key) IN ({values});

-- name: forget_items
-- Their lists.
DELETE FROM item WHERE (service, key) IN ({values});

-- name: rewrite
-- The ends of journals, to be written anew.
DELETE FROM entry WHERE lsn IN (SELECT lsn FROM ({values}) CROSS JOIN entry WHERE n = column1 AND seq >= column2);

-- name: add_starts
-- New invocations.
INSERT OR ROLLBACK INTO invocation ({row})
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
-- Promises, open or settled at once. One that was withdrawn is made anew.
INSERT OR ROLLBACK INTO promise (id, n, created, about, status, settled, value)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL
ON CONFLICT (id) DO UPDATE SET created = excluded.created, about = excluded.about, status = excluded.status,
settled = excluded.settled, value = excluded.value WHERE promise.status = 3 AND promise.n = excluded.n;

-- name: move
-- Changes of status. At most one row of {values} per invocation: with two, UPDATE FROM takes either.
UPDATE OR ROLLBACK invocation
SET status = column2, updated = column3, wake_at = column4, outcome = column5, began = coalesce(column6, began),
in_queue = column7
FROM ({values}) WHERE n = column1;

-- name: settle
-- Settles promises that are still open.
UPDATE OR ROLLBACK promise
SET status = column2, settled = column3, value = column4
FROM ({values}) WHERE id = column1 AND status = 0;

-- name: put_states
-- Values of objects. At most one row of {values} per value, as for all that follow but waiters.
INSERT OR ROLLBACK INTO state (service, key, name, body)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL
ON CONFLICT (service, key, name) DO UPDATE SET body = excluded.body;

-- name: drop_states
-- Values of objects that are no more.
DELETE FROM state WHERE (service, key, name) IN ({values});

-- name: add_items
-- Elements of lists; UNIQUE refuses a second writer.
INSERT OR ROLLBACK INTO item (service, key, name, idx, body)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL;

-- name: trim
-- The beginnings of lists.
DELETE FROM item WHERE lsn IN (
    SELECT lsn FROM ({values}) CROSS JOIN item
    WHERE service = column1 AND key = column2 AND name = column3 AND idx < column4
);

-- name: add_waiters
-- Who waits for what.
INSERT OR ROLLBACK INTO waiter (subject, n)
SELECT * FROM ({values}) WHERE column1 IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: drop_waiters
-- All who wait for a subject.
DELETE FROM waiter WHERE subject IN ({values});

-- name: parts
-- What a schema is made of, by kind and name.
SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'
UNION ALL
SELECT 'column ' || o.name || '.' || c.name FROM sqlite_schema AS o JOIN pragma_table_info(o.name) AS c
WHERE o.type = 'table';

-- name: count_open
-- The first write of every open (opening.py says why).
INSERT INTO state (service, key, name, body) VALUES ('', '', 'opens', 1)
ON CONFLICT (service, key, name) DO UPDATE SET body = body + 1;

-- name: last_number
-- The largest n, one step in the table's own tree, or what a purge has kept.
SELECT max(
    (SELECT coalesce(max(n), 0) FROM invocation),
    coalesce((SELECT body FROM state WHERE service = '' AND key = '' AND name = 'last_number'), 0)
);

-- name: find
-- One invocation by its id.
SELECT {row} FROM invocation WHERE id = ?;

-- name: get
-- One invocation by its number.
SELECT {row} FROM invocation WHERE n = ?;

-- name: entries
-- One journal.
SELECT body FROM entry WHERE n = ? AND seq >= ? ORDER BY seq LIMIT ?;

-- name: length
-- One journal's end.
SELECT coalesce(max(seq), -1) + 1 FROM entry WHERE n = ?;

-- name: counts
-- How many are READY, how many of each status that has its index, and how many there are: what is left is DONE.
SELECT 0, count(*) FROM invocation INDEXED BY invocation_due WHERE status = 0 AND wake_at IS NULL
UNION ALL
SELECT status, count(*) FROM invocation INDEXED BY invocation_status WHERE status <> 0 AND status <> 4 GROUP BY status
UNION ALL
SELECT 4, count(*) FROM invocation;

-- name: ready
-- What can run.
SELECT n FROM invocation INDEXED BY invocation_due WHERE {is_due} AND wake_at IS NULL ORDER BY n LIMIT ?;

-- name: due
-- Whose time has come, earliest first.
SELECT wake_at, n FROM invocation INDEXED BY invocation_due
WHERE {is_due} AND wake_at <= ? ORDER BY wake_at, n LIMIT ?;

-- name: next_wake
-- The earliest deadline of all.
SELECT wake_at FROM invocation INDEXED BY invocation_due
WHERE {is_due} AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1;

-- name: holder
-- Who has begun under a lock.
SELECT min(n) FROM invocation INDEXED BY invocation_lock WHERE {at_lock} AND status IN (0, 1, 3) AND lock = ?;

-- name: queued_for_lock
-- Who waits for a lock, in order of arrival.
SELECT n FROM invocation INDEXED BY invocation_lock
WHERE {at_lock} AND status = 2 AND lock = ? ORDER BY updated, n LIMIT ?;

-- name: queued_for_lane
-- Who waits for room in a lane, in order of arrival, from a place onwards. In two: for (updated, n) > (?2, ?3) SQLite
-- would pass all who came in the same millisecond.
SELECT updated, n FROM invocation INDEXED BY invocation_lane
WHERE {in_lane} AND status = 2 AND lane = ?1 AND updated = ?2 AND n > ?3
UNION ALL
SELECT updated, n FROM invocation INDEXED BY invocation_lane
WHERE {in_lane} AND status = 2 AND lane = ?1 AND updated > ?2
ORDER BY updated, n LIMIT ?4;

-- name: queued_locks
-- Locks that somebody waits for. From each to the next in one search: DISTINCT would pass all who wait.
WITH RECURSIVE found (name) AS (
    SELECT min(lock) FROM invocation INDEXED BY invocation_lock WHERE {at_lock} AND status = 2 AND lock > ?1
    UNION ALL
    SELECT (
        SELECT min(lock) FROM invocation INDEXED BY invocation_lock WHERE {at_lock} AND status = 2 AND lock > found.name
    ) FROM found WHERE name IS NOT NULL LIMIT ?2
)
SELECT name FROM found WHERE name IS NOT NULL;

-- name: queued_lanes
-- Lanes that somebody waits for room in.
WITH RECURSIVE found (name) AS (
    SELECT min(lane) FROM invocation INDEXED BY invocation_lane WHERE {in_lane} AND status = 2 AND lane > ?1
    UNION ALL
    SELECT (
        SELECT min(lane) FROM invocation INDEXED BY invocation_lane WHERE {in_lane} AND status = 2 AND lane > found.name
    ) FROM found WHERE name IS NOT NULL LIMIT ?2
)
SELECT name FROM found WHERE name IS NOT NULL;

-- name: lane_running
-- Who has a place in a lane.
SELECT n FROM invocation INDEXED BY invocation_lane WHERE status < 2 AND status IN (0, 1) AND lane = ?;

-- name: children
-- What an invocation called or sent.
SELECT {row} FROM invocation INDEXED BY invocation_parent WHERE parent = ? ORDER BY n LIMIT ?;

-- name: ended_before
-- What may be purged: over for long, and so is its parent; of a workflow's main run also the others of its key. Who
-- waits for it is over too, or SUSPENDED: it was woken by the end and told, or waits for something else by now.
SELECT n FROM invocation AS i INDEXED BY invocation_ended
WHERE status >= 4 AND updated < ?
AND NOT EXISTS (SELECT 1 FROM invocation AS p WHERE p.n = i.parent AND p.status < 4)
AND NOT EXISTS (
    SELECT 1 FROM waiter CROSS JOIN invocation AS w USING (n) WHERE subject = i.id AND w.status < 4 AND w.status <> 1
)
AND NOT EXISTS (
    SELECT 1 FROM invocation AS o INDEXED BY invocation_key
    WHERE i.id = substr(i.target, 1, instr(i.target, '/') - 1) || ':' || i.key
    AND o.key = i.key AND o.status < 4 AND instr(o.target, substr(i.target, 1, instr(i.target, '/'))) = 1
)
ORDER BY updated, n LIMIT ?;

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
-- One page of invocations, newest first.
SELECT {row} FROM invocation NOT INDEXED WHERE {page};

-- name: list_parent
-- The same of one parent.
SELECT {row} FROM invocation INDEXED BY invocation_parent WHERE parent = ?6 AND {page};

-- name: list_key
-- The same of one key.
SELECT {row} FROM invocation INDEXED BY invocation_key WHERE key = ?5 AND {page};

-- name: list_ready
-- The same of READY ones.
SELECT {row} FROM invocation INDEXED BY invocation_due WHERE status = 0 AND wake_at IS NULL AND {page};

-- name: list_status
-- The same of one status that is neither READY nor DONE.
SELECT {row} FROM invocation INDEXED BY invocation_status
WHERE status <> 0 AND status <> 4 AND status = ?2 AND {page};

-- name: list_target
-- The same of one target.
SELECT {row} FROM invocation INDEXED BY invocation_target WHERE target = ?3 AND {page};

-- name: targets
-- All targets in a range, each found from the one before it.
WITH RECURSIVE found (target) AS (
    SELECT min(target) FROM invocation INDEXED BY invocation_target WHERE target BETWEEN ?1 AND ?2
    UNION ALL
    SELECT (
        SELECT min(i.target) FROM invocation AS i INDEXED BY invocation_target
        WHERE i.target > found.target AND i.target <= ?2
    ) FROM found WHERE found.target IS NOT NULL
)
SELECT target FROM found WHERE target IS NOT NULL;

-- name: state
-- One value of an object.
SELECT body FROM state WHERE service = ? AND key = ? AND name = ?;

-- name: state_names
-- What an object has values for. No limit is -1.
SELECT name FROM state WHERE service = ? AND key = ? AND name > ? ORDER BY name LIMIT ?;

-- name: object_keys
-- Objects of a service that have a value, each found from the one before it.
WITH RECURSIVE found (key) AS (
    SELECT min(key) FROM state WHERE service = ?1 AND key > ?2
    UNION ALL
    SELECT (SELECT min(s.key) FROM state AS s WHERE s.service = ?1 AND s.key > found.key)
    FROM found WHERE found.key IS NOT NULL LIMIT ?3
)
SELECT key FROM found WHERE key IS NOT NULL;

-- name: items
-- A run of a list.
SELECT idx, body FROM item WHERE service = ? AND key = ? AND name = ? AND idx >= ? AND idx < ? ORDER BY idx;

-- name: items_end
-- A list's end.
SELECT coalesce(max(idx), -1) + 1 FROM item WHERE service = ? AND key = ? AND name = ?;

-- name: waiters
-- Who waits for a subject.
SELECT n FROM waiter WHERE subject = ? ORDER BY n;
