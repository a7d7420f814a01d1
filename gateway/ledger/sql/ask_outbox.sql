-- Ask for what Redis must still be told; the same cause never asks twice.
-- PARAMS: kind, org, payload, source.
INSERT INTO outbox (kind, org, payload, source)
SELECT kind, org, payload::jsonb, source
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked (kind, org, payload, source)
ON CONFLICT (source) DO NOTHING
