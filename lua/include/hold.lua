-- read_hold, read_end: the packed records of an open and of an ended reservation. Needs amount.
-- What a script would not have written is no record: a number that is too long for one would be
-- refused, or taken for another one, in the middle of the writes.

-- amount, reserved_ms and deadline_ms stay text: they go back into commands as they came.
local function read_hold(record)
    local amount, owner, agent, key_id, reserved_ms, deadline_ms, body, idem, windows =
        string.match(record or '',
            '^1|(%d+)|(%a+)|([%w_-]+)|(%w*)|(%d+)|(%d+)|(%w*)|(%w*)|([%w:,_-]+)$')
    if not (amount and is_amount(amount) and #reserved_ms <= 15 and #deadline_ms <= 15) then
        return nil
    end
    return {amount = amount, owner = owner, agent = agent, key_id = key_id,
        reserved_ms = reserved_ms, deadline_ms = deadline_ms, body = body, idem = idem,
        windows = windows}
end

-- state|quote|actual|counted|reserved_ms|end_ms|owner|agent|windows
local function read_end(record)
    local state, quote, actual, counted, reserved_ms, end_ms, owner, agent, windows =
        string.match(record or '',
            '^1|(%a+)|(%d+)|(%d+)|(%-?%d+)|(%d+)|(%d+)|(%a*)|([%w_-]*)|([%w:,_-]*)$')
    if not (state and is_amount(quote) and is_amount(actual) and #counted <= 17
        and #reserved_ms <= 15 and #end_ms <= 15) then
        return nil
    end
    -- An expiry charges all or nothing; a late settle is counted from there.
    if state == 'expired' and actual ~= quote and actual ~= '0' then
        return nil
    end
    return {state = state, quote = quote, actual = actual, counted = counted,
        reserved_ms = reserved_ms, end_ms = end_ms, owner = owner, agent = agent, windows = windows}
end
