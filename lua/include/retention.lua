-- keep_until: how long the counters of a window are kept. 
-- Late settles and the ledger's repairs still find the counters of a window that has ended.
local function keep_until(window)
    local days = (window.kind == 'hour' or window.kind == 'day') and 2 or 40
    if window.kind ~= 'total' then
        redis.call('PEXPIREAT', window.key, string.format('%d', window.end_ms + days * 86400000))
    end
end
