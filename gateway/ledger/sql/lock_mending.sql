-- Let one mend an org at a time, until its transaction ends.
-- PARAMS: org.
SELECT pg_advisory_xact_lock(hashtextextended('mending/' || $1, 0))
