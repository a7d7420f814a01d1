-- A number that rises in Redis with each look at its limits, and with each change of them, as it was
-- kept last. A Redis that has a smaller one was started from an older file.
-- Locks: node_epoch for the moment in which its catalogue entry changes; it has a row for each life.
-- Safe while the previous release runs: it names the columns that it reads and writes.
ALTER TABLE node_epoch ADD COLUMN beat bigint NOT NULL DEFAULT 0;
