-- count_call: what an admission leaves beside its hold: an open call, arrivals, an idempotency key.
local function count_call(rate_key, scope, arrivals, idem_key, idem_record)
    redis.call('HINCRBY', rate_key, scope .. '.open', 1)
    if arrivals then
        redis.call('HSET', rate_key, unpack(arrivals))
    end
    if idem_record then
        redis.call('SET', idem_key, idem_record .. '|held|0', 'PX', 86400000)
    end
end
