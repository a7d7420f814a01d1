-- Tell Redis once more what it was told in the last hours and may have forgotten. Harmless where it
-- has not: for seven days it knows each by its own id. Never repairs: the counters are compared.
-- PARAMS: kinds, hours.
UPDATE outbox
SET done_at = NULL, due_at = now(), first_tried_at = NULL
WHERE kind = ANY ($1::text[]) AND result IN ('OK', 'DONE')
    AND done_at > now() - make_interval(hours => $2)
    -- The seven days begin when it was applied first, however often it was told since.
    AND created_at > now() - interval '6 days'
