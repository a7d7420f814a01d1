-- bad_ask: the name of the first argument of reserve that is malformed, or nil. Needs argument.
-- What ends up in records and counters is checked at once; only where that fails is each looked at.
local function bad_ask()
    local names = ARGV[3] .. ARGV[4] .. ARGV[1]
    if is_amount(ARGV[5]) and string.find(names, '^[%w_-]+$') and ARGV[3] ~= '' and ARGV[4] ~= ''
        and tonumber(ARGV[2]) and tonumber(ARGV[6]) and tonumber(ARGV[7])
        and tonumber(ARGV[13]) then
        return nil
    end
    return bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
        'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$',
        'default_ttl_ms', '^%d+$', 'key_digest', '^%w*$', 'owner', '^%a+$',
        'body_digest', '^%w*$', 'idem_digest', '^%w*$', 'zone', '^[%w/_+-]+$',
        'journal_entries_max', '^%d+$', 'epoch', '^%w+$'}) or 'amount_microcents'
end
