-- What the counters of some orgs are made of. One statement, because the spend and the repairs
-- that are still open must be of one snapshot: what such a repair would add is in the spend.
-- PARAMS: orgs, windows, window ids.
-- RETURNS: org, part (spent, credit, applied), scope, window, window id, microcents, id of what
-- Redis has applied, or must take for applied.
WITH wanted AS (
    SELECT * FROM unnest($2::text[], $3::text[]) AS wanted ("window", window_id)
)
SELECT org, 'spent' AS part, CASE agent WHEN '' THEN 'org' ELSE 'agent.' || agent END AS scope,
    "window", window_id, spent_microcents AS microcents, '' AS id
FROM spend_window JOIN wanted USING ("window", window_id)
WHERE org = ANY ($1::text[])
UNION ALL
SELECT org, 'credit', scope, window_kind, credit_entry.window_id, sum(amount_microcents)::bigint, ''
FROM credit_entry
JOIN wanted ON wanted."window" = window_kind AND wanted.window_id = credit_entry.window_id
WHERE org = ANY ($1::text[]) AND state = 'applied'
GROUP BY org, scope, window_kind, credit_entry.window_id
UNION ALL
SELECT org, 'applied', '', '', '', 0, id
FROM credit_entry
WHERE org = ANY ($1::text[]) AND state = 'applied' AND confirmed_at > now() - interval '7 days'
UNION ALL
SELECT org, 'applied', '', '', '', 0, payload ->> 'id'
FROM outbox
WHERE org = ANY ($1::text[]) AND payload ->> 'id' <> ''
    AND (done_at > now() - interval '7 days' OR (done_at IS NULL AND kind = 'repair'))
