-- Book rows that are new; a reservation that has its base row, or this very row, takes no other.
-- PARAMS: one array per column, in the order below. RETURNS: the source of each row inserted.
INSERT INTO usage_entry (
    reservation_id, kind, entry_id, reserved_at, org, agent, amount_microcents, counted_microcents,
    hour_id, day_id, week_id, month_id, at, model, input_tokens, output_tokens, cached_tokens,
    price_id, source, status, duration_ms, key_id, journal_id, epoch
)
SELECT *
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::bigint[],
    $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[],
    $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::text[],
    $20::integer[], $21::bigint[], $22::text[], $23::text[], $24::text[]
)
ON CONFLICT DO NOTHING
RETURNING epoch || '/' || journal_id AS source
