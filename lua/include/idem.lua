-- end_key: an idempotency key lives on with its end, or is free again after a release.
local function end_key(idem_key, id, body, state, cost)
    if state == 'released' then
        redis.call('DEL', idem_key)
    elseif redis.call('EXISTS', idem_key) == 1 then
        redis.call('SET', idem_key, table.concat({id, body, state, cost}, '|'), 'KEEPTTL')
    end
end
