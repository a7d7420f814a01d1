-- time_ms: the instant that a test has set, or the server's time.
local function time_ms()
    local time = redis.call('TIME')
    return tonumber(redis.call('GET', 'test:now') or time[1] * 1000 + math.floor(time[2] / 1000))
end
