-- read_hold, read_end: the packed records of an open and of an ended reservation.

-- amount, reserved_ms and deadline_ms stay text: they go back into commands as they came.
local function read_hold(record)
    local amount, owner, agent, key_id, reserved_ms, deadline_ms, body, idem, windows =
        string.match(record or '',
            '^1|(%d+)|(%a+)|([%w_-]+)|(%w*)|(%d+)|(%d+)|(%w*)|(%w*)|([%w:,_-]+)$')
    return amount and {amount = amount, owner = owner, agent = agent, key_id = key_id,
        reserved_ms = reserved_ms, deadline_ms = deadline_ms, body = body, idem = idem,
        windows = windows}
end

-- state|quote|actual|counted|reserved_ms|end_ms|owner|agent|windows
local function read_end(record)
    local state, quote, actual, counted, reserved_ms, end_ms, owner, agent, windows =
        string.match(record or '',
            '^1|(%a+)|(%d+)|(%d+)|(%-?%d+)|(%d+)|(%d+)|(%a*)|([%w_-]*)|([%w:,_-]*)$')
    return state and {state = state, quote = quote, actual = actual, counted = counted,
        reserved_ms = reserved_ms, end_ms = end_ms, owner = owner, agent = agent, windows = windows}
end
