-- Every row of one reservation, in the order in which things happened: a batch is booked in another.
-- PARAMS: reservation id, its instant, org.
SELECT kind, entry_id, agent, amount_microcents, counted_microcents, at, hour_id, day_id, week_id,
    month_id, model, input_tokens, output_tokens, cached_tokens, price_id, source, status,
    duration_ms, key_id, epoch || '/' || journal_id AS journal
FROM usage_entry
WHERE reservation_id = $1 AND reserved_at = $2 AND org = $3
ORDER BY at, split_part(journal_id, '-', 1)::bigint, split_part(journal_id, '-', 2)::bigint
