-- read_windows, windows_fit: the rule that no instant has two budgets. A proposal is packed as
-- kind|id|start_ms|end_ms,... with nothing for total, which has no bounds.

local function read_windows(meta_key, proposal)
    local windows = {}
    for kind, id, start_ms, end_ms in string.gmatch(proposal, '(%l+)|([%w-]+)|(%d+)|(%d+)') do
        local stored =
            redis.call('HMGET', meta_key, kind .. '.id', kind .. '.start', kind .. '.end')
        windows[#windows + 1] = {kind = kind, id = id, start_ms = start_ms, end_ms = end_ms,
            stored_id = stored[1] or '', stored_start = stored[2] or '0',
            stored_end = stored[3] or '0'}
    end
    return windows
end

-- While now is before the stored end only the running window is accepted; after it a window of
-- the org's own zone that starts at or after that end and contains now.
local function windows_fit(windows, now_ms, zone_is_current)
    for _, window in ipairs(windows) do
        local stored_end, start_ms = tonumber(window.stored_end), tonumber(window.start_ms)
        local fits = window.id == window.stored_id and window.start_ms == window.stored_start
            and window.end_ms == window.stored_end
        if now_ms >= stored_end then
            fits = zone_is_current and start_ms >= stored_end and start_ms <= now_ms
                and now_ms < tonumber(window.end_ms)
        end
        if not fits then
            return false
        end
    end
    return true
end
