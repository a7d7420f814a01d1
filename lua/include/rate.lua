-- next_arrival: the generic cell rate algorithm with a burst of one full minute.
-- Answers the next theoretical arrival in microseconds, or nil and the milliseconds to wait.
-- per_minute_millionths is the rate times 10^6, as microcents() reads a number.
local function next_arrival(arrival_us, now_us, per_minute_millionths)
    if not per_minute_millionths then
        return now_us, 0
    end
    if per_minute_millionths == 0 then
        return nil, 60000
    end
    local interval_us = math.floor(60000000 * 1000000 / per_minute_millionths)
    local arrival = math.max(arrival_us, now_us) + interval_us
    -- The first call always fits, also where the interval is longer than the minute.
    local excess_us = arrival - now_us - math.max(60000000, interval_us)
    if excess_us > 0 then
        return nil, math.ceil(excess_us / 1000)
    end
    return arrival, 0
end
