-- bury: keeps how a reservation ended; an expired one longer, as its settle may be late.
local function bury(done_key, state, quote, actual, counted, reserved_ms, end_ms, owner, agent,
    windows)
    local ttl_ms = state == 'expired' and '86400000' or '900000'
    redis.call('SET', done_key, '1|' .. state .. '|' .. quote .. '|' .. actual .. '|' .. counted
        .. '|' .. reserved_ms .. '|' .. end_ms .. '|' .. owner .. '|' .. agent .. '|' .. windows,
        'PX', ttl_ms)
end
