-- Add what was inserted to the aggregates, in key order so that two pumps never deadlock.
-- PARAMS: org, agent, window, window id, microcents.
INSERT INTO spend_window AS known (org, agent, "window", window_id, spent_microcents)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (org, agent, "window", window_id)
DO UPDATE SET spent_microcents = known.spent_microcents + excluded.spent_microcents
