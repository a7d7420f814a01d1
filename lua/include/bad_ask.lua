-- bad_ask: the name of the argument of reserve that is malformed. Needs argument.
local function bad_ask()
    return bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
        'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$',
        'default_ttl_ms', '^%d+$', 'key_digest', '^%w*$', 'owner', '^%a+$',
        'body_digest', '^%w*$', 'idem_digest', '^%w*$', 'zone', '^[%w/_+-]+$',
        'journal_entries_max', '^%d+$', 'epoch', '^%w+$'}) or 'amount_microcents'
end
