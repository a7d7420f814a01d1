-- packed_windows, note_overage: warnings when spent grew without a reserve. Needs notice.
local function packed_windows(packed, key)
    local windows = {}
    for kind, id in string.gmatch(packed .. ',', '(%a+):?([^,]*),') do
        windows[#windows + 1] = {kind = kind, id = id, key = KEYS[key + #windows]}
    end
    assert(KEYS[key + #windows] == nil, 'one spend key for each window')
    return windows
end

-- Limits that are not valid warn of nothing here: the next reserve refuses and names the field.
local function note_overage(limits_key, journal_key, windows, entry)
    local chain = read_limits(limits_key, entry.agent, windows, entry.at_ms)
    read_counters(windows, 'agent.' .. entry.agent)
    for _, budget in ipairs(chain or {}) do
        budget.numbers = budget.scope == 'org' and budget.window.org or budget.window.agent
        local exists = not budget.window.is_new
        if exists and is_past_warning(budget, budget.numbers.spent + budget.numbers.held) then
            notice(journal_key, budget, 'warned', entry)
        end
    end
end
