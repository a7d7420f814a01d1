-- Take what is due for one worker. The lease keeps others away; the fence tells a worker whose
-- lease has run out that the row is no longer its own.
-- PARAMS: how many, lease in seconds, seconds for which a row may be tried.
-- RETURNS: the rows taken; is_over where the first try lies too far back.
UPDATE outbox
SET lease_until = now() + make_interval(secs => $2),
    fence = fence + 1,
    attempts = attempts + 1,
    first_tried_at = coalesce(first_tried_at, now())
WHERE id IN (
    SELECT id
    FROM outbox
    WHERE done_at IS NULL AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY due_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, payload, fence, first_tried_at < now() - make_interval(secs => $3) AS is_over
