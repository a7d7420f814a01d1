-- Whether a repair of an org may not have reached its counters yet at some instant.
-- PARAMS: org, instant. RETURNS: true where one is open, or was told to Redis after the instant.
SELECT EXISTS (
    SELECT FROM outbox
    WHERE kind = 'repair' AND org = $1 AND (done_at IS NULL OR done_at >= $2)
)
