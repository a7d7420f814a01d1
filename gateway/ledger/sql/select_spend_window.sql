-- What an org and one of its agents have spent in some windows.
-- PARAMS: org, agent, windows, window ids. RETURNS: agent ('' is the org), window, id, microcents.
SELECT agent, "window", window_id, spent_microcents
FROM spend_window
WHERE org = $1 AND agent IN ('', $2)
    AND ("window", window_id) IN (SELECT * FROM unnest($3::text[], $4::text[]))
