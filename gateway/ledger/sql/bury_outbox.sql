-- Give a row up, keep it with its reason, and raise an alert.
-- PARAMS: id, fence, reason.
WITH buried AS (
    UPDATE outbox
    SET done_at = now(), result = 'dead', last_error = $3, lease_until = NULL
    WHERE id = $1 AND fence = $2 AND done_at IS NULL
    RETURNING 'outbox/' || id AS source, kind, org, payload
), kept AS (
    INSERT INTO dead_entry (source, fields, reason)
    SELECT source, payload, $3 FROM buried
    ON CONFLICT (source) DO NOTHING
)
INSERT INTO alert (org, kind, detail, at, source)
SELECT org, 'outbox_dead', jsonb_build_object('kind', kind, 'reason', $3::text), now(), source
FROM buried
ON CONFLICT (source) DO NOTHING
