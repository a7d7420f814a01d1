-- append: one entry of the journal, all fields as text. Positions, not a table: it is hot.
local function append(journal_key, kind, id, entry_id, org, agent, amount, counted, reserved_ms,
    at_ms, windows, epoch, detail)
    redis.call('XADD', journal_key, '*', 'v', '1', 'kind', kind, 'id', id, 'entry_id', entry_id,
        'org', org, 'agent', agent, 'amount', amount, 'counted', counted,
        'reserved_ms', reserved_ms, 'at_ms', at_ms, 'windows', windows,
        'epoch', epoch, 'detail', detail)
end
