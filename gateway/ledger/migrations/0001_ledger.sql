-- The ledger: what was spent, by whom, exactly once; and the orgs, agents and keys that spend.
-- Locks: none that matter, every table is new. Safe while the previous release runs: there is none.

CREATE TABLE org (
    org text PRIMARY KEY,
    timezone text NOT NULL,
    billing text NOT NULL DEFAULT 'none' CHECK (billing IN ('prepaid', 'postpaid', 'none')),
    stripe_customer text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE agent (
    org text NOT NULL REFERENCES org,
    agent text NOT NULL,
    description jsonb NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (org, agent)
);

CREATE TABLE api_key (
    org text NOT NULL REFERENCES org,
    key_id text NOT NULL,
    digest text NOT NULL UNIQUE,
    agents text NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'revoked')),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org, key_id)
);

CREATE TABLE limit_change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text NOT NULL,
    field text NOT NULL,
    old_value text,
    new_value text,
    actor text NOT NULL,
    cause text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX limit_change_org ON limit_change (org, id);

CREATE TABLE credit_entry (
    id text PRIMARY KEY,
    org text NOT NULL REFERENCES org,
    scope text NOT NULL,
    window_kind text NOT NULL,
    window_id text NOT NULL,
    amount_microcents bigint NOT NULL CHECK (amount_microcents <> 0),
    cause text NOT NULL,
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'applied', 'gone')),
    created_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz
);

-- One row for each fact. `counted` is what the entry added to the live counters.
CREATE TABLE usage_entry (
    reservation_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('settle', 'expire', 'late', 'correct')),
    reserved_at timestamptz NOT NULL,
    org text NOT NULL,
    agent text NOT NULL,
    amount_microcents bigint NOT NULL,
    counted_microcents bigint NOT NULL,
    entry_id text NOT NULL DEFAULT '',
    hour_id text,
    day_id text,
    week_id text,
    month_id text,
    at timestamptz NOT NULL,
    model text,
    input_tokens bigint,
    output_tokens bigint,
    cached_tokens bigint,
    price_id text,
    source text,
    status integer,
    duration_ms bigint,
    key_id text,
    journal_id text NOT NULL,
    epoch text NOT NULL,
    entry_seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (reservation_id, reserved_at, kind, entry_id),
    CHECK (amount_microcents >= 0 OR kind IN ('late', 'correct')),
    CHECK ((kind = 'correct') = (entry_id <> ''))
) PARTITION BY RANGE (reserved_at);
CREATE UNIQUE INDEX usage_entry_base ON usage_entry (reservation_id, reserved_at)
    WHERE kind IN ('settle', 'expire');
CREATE INDEX usage_entry_org ON usage_entry (org, reserved_at);
CREATE INDEX usage_entry_seq ON usage_entry (entry_seq);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: book a correction instead of %', TG_TABLE_NAME, TG_OP;
END $$;
CREATE TRIGGER usage_entry_append_only BEFORE UPDATE OR DELETE ON usage_entry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_entry_no_truncate BEFORE TRUNCATE ON usage_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- agent '' is the org. Changes only by rows inserted into usage_entry, in their transaction.
CREATE TABLE spend_window (
    org text NOT NULL,
    agent text NOT NULL,
    "window" text NOT NULL,
    window_id text NOT NULL,
    spent_microcents bigint NOT NULL,
    PRIMARY KEY (org, agent, "window", window_id)
);

CREATE TABLE alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text NOT NULL,
    kind text NOT NULL,
    detail jsonb NOT NULL,
    at timestamptz NOT NULL,
    source text NOT NULL UNIQUE
);

-- What must still be told to Redis. `source` keeps one cause from asking twice.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('credit', 'correct', 'repair')),
    org text NOT NULL,
    payload jsonb NOT NULL,
    source text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    done_at timestamptz,
    result text,
    last_error text
);
CREATE INDEX outbox_due ON outbox (due_at) WHERE done_at IS NULL;

CREATE TABLE dead_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL UNIQUE,
    fields jsonb NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
