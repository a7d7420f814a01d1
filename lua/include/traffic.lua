-- traffic: concurrency and rate, which only an admission consumes.
-- Needs ceiling rate.

-- Concurrency, then rate. Answers the refusal, or nil and the arrivals that an admission stores.
local function traffic(rules, scope, holds_key, rate_key, now_ms)
    local state = redis.call('HMGET', rate_key, scope .. '.open', 'org.arrival_us',
        scope .. '.arrival_us')
    local refusing, count = above_ceiling(rules, 7, scope,
        (redis.call('HLEN', holds_key) + 1) * 1000000, (tonumber(state[1] or 0) + 1) * 1000000)
    if refusing then
        return {'CONCURRENCY', refusing, math.floor(count / 1000000)}
    end
    local arrivals = {}
    for place, rated in ipairs({{'org', rules[8]}, {scope, rules[11]}}) do
        local last_us = tonumber(state[place + 1] or 0)
        local next_us, retry_ms = next_arrival(last_us, now_ms * 1000, rated[2])
        if not next_us then
            return {'RATE', rated[1], retry_ms}
        end
        if rated[2] then
            arrivals[#arrivals + 1] = rated[1] .. '.arrival_us'
            arrivals[#arrivals + 1] = string.format('%d', next_us)
        end
    end
    return nil, #arrivals > 0 and arrivals or nil
end
