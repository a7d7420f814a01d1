-- open_windows: makes proposed windows the running ones, where there are any.
-- `running` and `until` let the next reserve compare one text instead of each bound.
local function open_windows(meta_key, windows, zone, running)
    if not windows then
        return
    end
    local first_end = 9007199254740991
    for _, window in ipairs(windows) do
        redis.call('HSET', meta_key, 'zone', zone, window.kind .. '.id', window.id,
            window.kind .. '.start', window.start_ms, window.kind .. '.end', window.end_ms)
        first_end = math.min(first_end, tonumber(window.end_ms))
    end
    redis.call('HSET', meta_key, 'running', running, 'until', string.format('%d', first_end))
end
