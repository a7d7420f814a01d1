-- bury, end_key: keeps how a reservation ended; an expired one longer, as its settle may be late.
local function bury(done_key, state, quote, actual, counted, reserved_ms, end_ms, owner, agent,
    windows)
    local ttl_ms = state == 'expired' and 86400000 or 900000
    redis.call('SET', done_key, '1|' .. state .. '|' .. quote .. '|' .. actual .. '|' .. counted
        .. '|' .. reserved_ms .. '|' .. string.format('%d', end_ms) .. '|' .. owner .. '|' .. agent
        .. '|' .. windows, 'PX', ttl_ms)
end

-- The idempotency key lives on with the end, or is free again after a release.
local function end_key(idem_key, id, body, state, cost)
    if state == 'released' then
        redis.call('DEL', idem_key)
    elseif redis.call('EXISTS', idem_key) == 1 then
        redis.call('SET', idem_key, table.concat({id, body, state, cost}, '|'), 'KEEPTTL')
    end
end
