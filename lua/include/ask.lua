-- bad_ask: the name of the first argument of reserve that is malformed, or nil. Needs amount.
-- Alike arguments are checked as one text; only where that fails is each looked at.
local function bad_ask()
    local numbers = ARGV[2] .. ARGV[6] .. ARGV[7] .. ARGV[13]
    local words = ARGV[1] .. ARGV[8] .. ARGV[9] .. ARGV[10] .. ARGV[11] .. ARGV[14]
    if is_amount(ARGV[5]) and string.find(ARGV[3], '^[%w_-]+$') and string.find(ARGV[4], '^[%w_-]+$')
        and string.find(numbers, '^%d+$') and string.find(words, '^%w+$') then
        return nil
    end
    return bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
        'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$',
        'default_ttl_ms', '^%d+$', 'key_digest', '^%w*$', 'owner', '^%a+$',
        'body_digest', '^%w*$', 'idem_digest', '^%w*$', 'zone', '^[%w/_+-]+$',
        'journal_entries_max', '^%d+$', 'epoch', '^%w+$'}) or 'amount_microcents'
end
