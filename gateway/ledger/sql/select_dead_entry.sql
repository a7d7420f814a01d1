-- What was kept aside of one reservation. Few rows ever are, so they are looked through.
-- PARAMS: org, reservation id. RETURNS: source, reason.
SELECT source, reason
FROM dead_entry
WHERE fields ->> 'org' = $1 AND fields ->> 'id' = $2
ORDER BY id
