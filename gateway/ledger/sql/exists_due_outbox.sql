-- Whether anything is due that Redis must still be told. RETURNS: true or false.
SELECT EXISTS (SELECT FROM outbox WHERE done_at IS NULL AND due_at <= now())
