-- Who was paused in its queue holds no lock. Runs in one transaction with the change of user_version.
-- Never edited after a release: a change is a new file.

ALTER TABLE invocation ADD COLUMN in_queue INTEGER NOT NULL DEFAULT 0;

-- Until now only its outcome told it, a record of kind 4 with 5 fields, of which the last is true.
UPDATE invocation SET in_queue = 1
WHERE status = 3 AND (began IS NULL OR (substr(outcome, 1, 3) = x'019604' AND substr(outcome, -1) = x'c3'));

DROP INDEX invocation_lock_held;
CREATE INDEX invocation_lock_held ON invocation (lock)
WHERE lock IS NOT NULL AND began IS NOT NULL AND status IN (0, 1, 3) AND in_queue = 0;
