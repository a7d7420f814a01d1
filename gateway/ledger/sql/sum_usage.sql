-- Calls, tokens and cost of an org by agent, model or day. A day is the one whose budget a call
-- counted in, or where days are not counted, that of its start in the org's zone.
-- PARAMS: org, its zone, first and last day as text, first and last instant that can belong to
-- them, and what to sum by. RETURNS: name, calls, input and output tokens, microcents.
-- A late or correct row changes what a call cost; it is not a call.
SELECT CASE $7 WHEN 'agent' THEN agent WHEN 'model' THEN coalesce(model, '') ELSE day END AS name,
    count(*) FILTER (WHERE kind IN ('settle', 'expire')) AS calls,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    sum(amount_microcents)::bigint AS cost_microcents
FROM usage_entry
CROSS JOIN LATERAL (
    SELECT coalesce(day_id, to_char(reserved_at AT TIME ZONE $2, 'YYYY-MM-DD')) AS day
) AS local
WHERE org = $1 AND reserved_at >= $5 AND reserved_at < $6 AND day BETWEEN $3 AND $4
GROUP BY name
ORDER BY CASE WHEN $7 = 'day' THEN 0 ELSE sum(amount_microcents) END DESC, name
