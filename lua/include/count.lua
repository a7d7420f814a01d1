-- count_call: what else an admission leaves beside its hold: arrivals, an idempotency key.
local function count_call(rate_key, arrivals, idem_key, idem_record)
    if arrivals then
        redis.call('HSET', rate_key, unpack(arrivals))
    end
    if idem_record then
        redis.call('SET', idem_key, idem_record .. '|held|0', 'PX', '86400000')
    end
end
