-- pack_hold: the record of an open reservation, as read_hold reads it.
local function pack_hold(amount, owner, agent, key_id, reserved_ms, deadline_ms, body, idem,
    windows)
    return '1|' .. amount .. '|' .. owner .. '|' .. agent .. '|' .. key_id .. '|' .. reserved_ms
        .. '|' .. deadline_ms .. '|' .. body .. '|' .. idem .. '|' .. windows
end
