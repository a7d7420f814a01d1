-- running_windows, opening_windows: what meta says of the windows that run. Needs window.

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

-- Whether a proposal that is not what runs may be opened: a refusal, or nil and its windows.
local function opening_windows(meta_key, running, proposal, zone, timezone, now_ms)
    local windows = read_windows(meta_key, proposal)
    for _, window in ipairs(windows) do
        local kind, bounds = window.kind, window.stored_id .. '|' .. window.stored_start .. '|'
            .. window.stored_end
        -- What runs is written twice: where the two differ a gateway would be told of another
        -- window, and open a second budget.
        if not string.find(bounds, '^[%w-]*|%d+|%d+$') or #window.stored_end > 15
            or (running and string.find(running, kind .. '|', 1, true)
                and not string.find(',' .. running .. ',', ',' .. kind .. '|' .. bounds .. ',', 1,
                    true)) then
            return {'BADARG', 'meta.' .. kind}
        end
    end
    if windows_fit(windows, now_ms, zone == timezone) then
        return nil, windows
    end
    return {'WINDOW', timezone, running_windows(windows)}
end
