-- Confirm the credits that Redis has applied and whose journal entries were lost with it.
UPDATE credit_entry
SET state = 'applied', confirmed_at = now()
FROM outbox
WHERE state = 'asked' AND outbox.source = 'credit/' || credit_entry.id
    AND outbox.done_at IS NOT NULL AND outbox.result IN ('OK', 'DONE')
