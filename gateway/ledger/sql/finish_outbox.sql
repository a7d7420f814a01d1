-- End rows with what Redis answered; a credit whose window has ended is marked as gone.
-- PARAMS: ids, fences, results. No row is changed where the fence has moved on.
WITH told AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS told (id, fence, result)
), done AS (
    UPDATE outbox
    SET done_at = now(), result = told.result, last_error = NULL, lease_until = NULL
    FROM told
    WHERE outbox.id = told.id AND outbox.fence = told.fence AND done_at IS NULL
    RETURNING outbox.kind, outbox.payload, outbox.result
)
UPDATE credit_entry
SET state = 'gone'
FROM done
WHERE done.result = 'GONE' AND done.kind = 'credit'
    AND credit_entry.id = done.payload ->> 'id' AND credit_entry.state = 'asked'
