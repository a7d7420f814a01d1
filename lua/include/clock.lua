-- time_ms: the server's time in epoch milliseconds. Tests put another file in its place.
local function time_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
