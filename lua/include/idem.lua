-- end_key: an idempotency key lives on with its end, or is free again after a release.
-- One that left by its TTL while the hold was open may be another call's by now: it stays so.
local function end_key(idem_key, id, body, state, cost)
    local record = redis.call('GET', idem_key) or ''
    if string.sub(record, 1, #id + 1) ~= id .. '|' then
        return
    end
    if state == 'released' then
        redis.call('DEL', idem_key)
    else
        redis.call('SET', idem_key, table.concat({id, body, state, cost}, '|'), 'KEEPTTL')
    end
end
