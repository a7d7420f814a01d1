-- The limits of some orgs as they were kept, and over them each change that was recorded later.
-- PARAMS: orgs. RETURNS: org, limits, meta, changes (field to new value or null) as JSON texts,
-- null where nothing is known.
SELECT org, kept.limits, kept.meta, change.changes
FROM unnest($1::text[]) AS wanted (org)
LEFT JOIN limits_mirror AS kept USING (org)
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(field, new_value) AS changes
    FROM (
        SELECT DISTINCT ON (field) field, new_value
        FROM limit_change
        WHERE limit_change.org = wanted.org AND (kept.at IS NULL OR limit_change.at > kept.at)
        ORDER BY field, id DESC
    ) AS last
) AS change ON true
