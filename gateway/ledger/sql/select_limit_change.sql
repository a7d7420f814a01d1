-- The recorded changes of an org's limits, or of one field where one is named; the newest first.
-- PARAMS: org, field or '', how many. RETURNS: at, field, old and new value, actor, cause.
SELECT at, field, old_value, new_value, actor, cause
FROM limit_change
WHERE org = $1 AND ($2 = '' OR field = $2)
ORDER BY id DESC
LIMIT $3
