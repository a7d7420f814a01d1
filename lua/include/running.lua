-- running_windows, open_windows, keep_clock: what meta says of time. Needs window.

-- kind, id, start_ms, end_ms of each; a gateway proposes again from it.
local function running_windows(windows)
    local flat = {}
    for _, window in ipairs(windows) do
        local at = #flat
        flat[at + 1], flat[at + 2] = window.kind, window.stored_id
        flat[at + 3], flat[at + 4] = window.stored_start, window.stored_end
    end
    return unpack(flat)
end

-- `running` and `until` let the next reserve compare one text instead of each bound.
local function open_windows(meta_key, windows, zone, running)
    local first_end = 9007199254740991
    for _, window in ipairs(windows) do
        redis.call('HSET', meta_key, 'zone', zone, window.kind .. '.id', window.id,
            window.kind .. '.start', window.start_ms, window.kind .. '.end', window.end_ms)
        first_end = math.min(first_end, tonumber(window.end_ms))
    end
    redis.call('HSET', meta_key, 'running', running, 'until', string.format('%d', first_end))
end

-- Once a second is enough: `now` only keeps the clock from being seen to step back.
local function keep_clock(meta_key, now_ms, stored_ms)
    if now_ms - stored_ms >= 1000 then
        redis.call('HSET', meta_key, 'now', string.format('%d', now_ms))
    end
end
