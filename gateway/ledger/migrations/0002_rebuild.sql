-- What only Redis knew, so that an empty one can be made again: limits that operators set by hand,
-- the running windows, and which life of Redis the counters belong to.
-- Locks: none that matter, both tables are new. Safe while the previous release runs: it reads and
-- writes neither.

-- Limits and the part of meta that no ledger has, as they stood at `at`. Written where they changed.
CREATE TABLE limits_mirror (
    org text PRIMARY KEY REFERENCES org,
    limits jsonb NOT NULL,
    meta jsonb NOT NULL,
    at timestamptz NOT NULL
);

-- One row for each life of Redis, the last one is current. What the journal counted before
-- `began_ms`, by the clock of Redis, was counted on counters that are lost.
CREATE TABLE node_epoch (
    epoch text PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    windows text NOT NULL,
    began_ms bigint NOT NULL,
    cause text NOT NULL CHECK (cause IN ('migrate', 'rebuild')),
    at timestamptz NOT NULL DEFAULT now()
);
