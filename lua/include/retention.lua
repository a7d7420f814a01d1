-- end_of, keep_until: when a proposed window ends, and how long its counters are kept.
local function end_of(proposal, kind)
    return string.match(proposal, kind .. '|[^|]*|%d+|(%d+)') or '0'
end

-- Late settles and the ledger's repairs still find the counters of a window that has ended.
local function keep_until(spend_key, proposal, kind)
    local days = (kind == 'hour' or kind == 'day') and 2 or 40
    if kind ~= 'total' then
        local end_ms = tonumber(end_of(proposal, kind))
        redis.call('PEXPIREAT', spend_key, string.format('%d', end_ms + days * 86400000))
    end
end
