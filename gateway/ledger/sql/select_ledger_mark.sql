-- Where the ledger stands: its clock, and the last number given to a row of usage_entry.
-- RETURNS: at, entry_seq. Whatever is booked later has a greater number.
SELECT clock_timestamp() AS at,
    coalesce(
        pg_sequence_last_value(pg_get_serial_sequence('usage_entry', 'entry_seq')::regclass), 0
    ) AS entry_seq
