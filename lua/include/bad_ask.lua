-- bad_ask: the name of the argument of reserve that is malformed. Needs argument.
-- A ttl of more than 15 digits would end beyond what a Lua number, a double, counts exactly.
local function bad_ask()
    return bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
        'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$',
        'default_ttl_ms', '^%d+$', 'key_digest', '^%w*$', 'owner', '^%a+$',
        'body_digest', '^%w*$', 'idem_digest', '^%w*$', 'zone', '^[%w/_+-]+$',
        'journal_entries_max', '^%d+$', 'epoch', '^%w+$'})
        or (#ARGV[6] > 15 and 'ttl_ms') or (#ARGV[7] > 15 and 'default_ttl_ms')
        or 'amount_microcents'
end
