-- End a row with what Redis answered; a credit whose window has ended is marked as gone.
-- PARAMS: id, fence, result. No row is changed where the fence has moved on.
WITH done AS (
    UPDATE outbox
    SET done_at = now(), result = $3, last_error = NULL, lease_until = NULL
    WHERE id = $1 AND fence = $2 AND done_at IS NULL
    RETURNING kind, payload
)
UPDATE credit_entry
SET state = 'gone'
FROM done
WHERE $3 = 'GONE' AND done.kind = 'credit' AND credit_entry.id = done.payload ->> 'id'
    AND credit_entry.state = 'asked'
