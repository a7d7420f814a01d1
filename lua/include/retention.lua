-- keep_until, keep_missing: how long the counters of a window are kept. Needs close places.

-- Late settles and the ledger's repairs still find the counters of a window that has ended.
local function keep_until(spend_key, proposal, kind)
    local days = (kind == 'hour' or kind == 'day') and 2 or 40
    if kind ~= 'total' then
        local end_ms = tonumber(close_of(proposal, kind))
        redis.call('PEXPIREAT', spend_key, string.format('%d', end_ms + days * 86400000))
    end
end

-- missing: of read_counters; a window without org.held had no key, so it has no TTL yet. One that
-- opens may be the last one under the same name, after a move west: it has another end now.
local function keep_missing(first_key, missing, windows, proposal, opening)
    for kind, place in pairs((places_of(windows))) do
        if missing[place] or opening then
            keep_until(KEYS[first_key + place - 1], proposal, kind)
        end
    end
end
