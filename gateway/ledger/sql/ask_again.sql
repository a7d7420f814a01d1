-- Tell Redis once more what it was told in the last hour and may have forgotten. Harmless where it
-- has not: it knows each by its own id. Repairs are left out, because the counters are compared.
UPDATE outbox
SET done_at = NULL, due_at = now()
WHERE kind IN ('credit', 'correct') AND result IN ('OK', 'DONE')
    AND done_at > now() - interval '1 hour'
