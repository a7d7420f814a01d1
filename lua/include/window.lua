-- windows_fit, running_windows: the rule that no instant has two budgets.

-- While now is before the stored end only the running window is accepted; after it a window of
-- the org's own zone that starts at or after that end and contains now.
local function windows_fit(windows, now_ms, zone_is_current)
    for _, window in ipairs(windows) do
        if window.kind ~= 'total' then
            local fits = window.id == window.running_id and window.start_ms == window.running_start
                and window.end_ms == window.running_end
            window.opens = now_ms >= window.running_end
            if window.opens then
                fits = zone_is_current and window.start_ms >= window.running_end
                    and window.start_ms <= now_ms and now_ms < window.end_ms
            end
            if not fits then
                return false
            end
        end
    end
    return true
end

-- kind, id, start_ms, end_ms of what is stored; a gateway proposes again from it.
local function running_windows(windows)
    local flat = {}
    for _, window in ipairs(windows) do
        if window.kind ~= 'total' then
            local at = #flat
            flat[at + 1], flat[at + 2] = window.kind, window.running_id
            flat[at + 3], flat[at + 4] = window.running_start, window.running_end
        end
    end
    return flat
end
