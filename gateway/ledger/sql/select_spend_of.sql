-- What some orgs have spent in some windows.
-- PARAMS: orgs, windows, window ids. RETURNS: org, agent ('' is the org), window, id, microcents.
SELECT org, agent, "window", window_id, spent_microcents
FROM spend_window
WHERE org = ANY ($1::text[])
    AND ("window", window_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
