-- append: one entry of the journal, all fields as text.
local function append(journal_key, entry)
    redis.call('XADD', journal_key, '*', 'v', '1', 'kind', entry.kind, 'id', entry.id,
        'entry_id', entry.entry_id or '', 'org', entry.org, 'agent', entry.agent,
        'amount', entry.amount, 'counted', entry.counted, 'reserved_ms', entry.reserved_ms,
        'at_ms', string.format('%d', entry.at_ms), 'windows', entry.windows,
        'epoch', entry.epoch, 'detail', entry.detail)
end
