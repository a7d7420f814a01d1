-- Keep limits and meta where they differ from what was kept. A look at another life of Redis, or
-- an older one than that which was kept, changes nothing.
-- PARAMS: orgs, limits, meta, instant before the look, epoch that was looked at.
INSERT INTO limits_mirror AS known (org, limits, meta, at)
SELECT seen.org, seen.limits::jsonb, seen.meta::jsonb, $4
FROM unnest($1::text[], $2::text[], $3::text[]) AS seen (org, limits, meta)
JOIN org USING (org)
LEFT JOIN limits_mirror AS kept USING (org)
WHERE (kept.org IS NULL OR (
        kept.at <= $4
        AND (kept.limits, kept.meta) IS DISTINCT FROM (seen.limits::jsonb, seen.meta::jsonb)
    ))
    AND NOT EXISTS (
        SELECT FROM node_epoch
        WHERE epoch <> $5 AND number = (SELECT max(number) FROM node_epoch)
    )
ORDER BY seen.org
ON CONFLICT (org) DO UPDATE
SET limits = excluded.limits, meta = excluded.meta, at = excluded.at
WHERE known.at <= excluded.at
