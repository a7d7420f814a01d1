-- Try a row again later: after 2, 4, 8 ... at most 60 seconds.
-- PARAMS: id, fence, error.
UPDATE outbox
SET due_at = now() + make_interval(secs => least(60, power(2, least(attempts, 6)))),
    last_error = $3,
    lease_until = NULL
WHERE id = $1 AND fence = $2 AND done_at IS NULL
