-- What some windows of an org had spent when the journal stood at an entry: the aggregates, less
-- what was booked of later entries. One statement, because only one snapshot is a cut.
-- PARAMS: org, windows, window ids, milliseconds and number of that entry's journal id, and an
-- entry_seq from before that entry was looked at: no later entry was booked up to there.
-- RETURNS: agent ('' is the org), window, window id, microcents.
WITH wanted AS (
    SELECT * FROM unnest($2::text[], $3::text[]) AS wanted ("window", window_id)
), later AS (
    SELECT agent, hour_id, day_id, week_id, month_id, amount_microcents
    FROM usage_entry
    WHERE org = $1 AND entry_seq > $6
        AND (split_part(journal_id, '-', 1)::bigint, split_part(journal_id, '-', 2)::bigint)
            > ($4::bigint, $5::bigint)
), change AS (
    SELECT agent, "window", window_id, spent_microcents AS microcents
    FROM spend_window JOIN wanted USING ("window", window_id)
    WHERE org = $1
    UNION ALL
    SELECT payer.agent, "window", window_id, -amount_microcents
    FROM later
    CROSS JOIN LATERAL (
        VALUES ('hour', hour_id), ('day', day_id), ('week', week_id), ('month', month_id),
            ('total', '')
    ) AS place ("window", window_id)
    JOIN wanted USING ("window", window_id)
    CROSS JOIN LATERAL (VALUES (''), (later.agent)) AS payer (agent)
)
SELECT agent, "window", window_id, sum(microcents)::bigint AS spent_microcents
FROM change
GROUP BY agent, "window", window_id
