-- read_meta, write_meta: the org's sequence, clock, billing status and running windows.
-- Gives each window but total what is stored of its kind: running_id, running_start, running_end.
local function read_meta(meta_key, windows)
    local fields = {'schema', 'seq', 'now', 'billing_status'}
    for _, window in ipairs(windows) do
        if window.kind ~= 'total' then
            local at = #fields
            fields[at + 1] = window.kind .. '.id'
            fields[at + 2] = window.kind .. '.start'
            fields[at + 3] = window.kind .. '.end'
        end
    end
    local values = redis.call('HMGET', meta_key, unpack(fields))
    for place, window in ipairs(windows) do
        local at = place * 3 + 2
        if window.kind ~= 'total' then
            window.running_id = values[at] or ''
            window.running_start = tonumber(values[at + 1] or 0)
            window.running_end = tonumber(values[at + 2] or 0)
        end
    end
    return {schema = values[1], seq = tonumber(values[2] or 0), now_ms = tonumber(values[3] or 0),
        billing_status = values[4]}
end

-- Stores the windows that open, the clock once a second, and the next number of the sequence.
local function write_meta(meta_key, meta, windows, zone, now_ms)
    for _, window in ipairs(windows) do
        if window.opens then
            redis.call('HSET', meta_key, 'zone', zone, window.kind .. '.id', window.id,
                window.kind .. '.start', string.format('%d', window.start_ms),
                window.kind .. '.end', string.format('%d', window.end_ms))
        end
    end
    if now_ms - meta.now_ms >= 1000 then
        redis.call('HSET', meta_key, 'now', string.format('%d', now_ms))
    end
    meta.seq = redis.call('HINCRBY', meta_key, 'seq', 1)
end
