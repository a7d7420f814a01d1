-- Raise alerts; the same source never twice.
-- PARAMS: orgs, kinds, details, sources.
-- RETURNS: the source of each that is new.
INSERT INTO alert (org, kind, detail, at, source)
SELECT org, kind, detail::jsonb, now(), source
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS raised (org, kind, detail, source)
ON CONFLICT (source) DO NOTHING
RETURNING source
