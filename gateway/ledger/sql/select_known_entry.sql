-- What is already booked of some reservations.
-- PARAMS: reservation ids, their instants. RETURNS: the rows that decide on a repeat.
SELECT reservation_id, kind, entry_id, amount_microcents, counted_microcents, at,
    epoch || '/' || journal_id AS source
FROM usage_entry
WHERE (reservation_id, reserved_at) IN (SELECT * FROM unnest($1::text[], $2::timestamptz[]))
