-- limits_text: all that the budgets of a call are made of, as one text.
-- meta keeps the budgets of the last admission, packed as `chain`, and as `limits` this text of
-- them. Where it is the same now, to the byte, there is nothing to look at again.
-- Its lines: fields and values, this call's windows, the chain itself and, last, its form and how
-- many fields and values there are. What is remembered has no line break in it, so with that many
-- lines no other limits come to the same text.
local function limits_text(limits_key, windows, packed)
    -- Bounded, as HGETALL is not: since then the hash may have got the limits of many agents.
    local scanned = redis.call('HSCAN', limits_key, '0', 'COUNT', '64')
    local texts = scanned[2]
    if scanned[1] ~= '0' or #texts > 64 then
        return nil
    end
    return table.concat(texts, '\n') .. '\n' .. windows .. '\n' .. packed .. '\n'
        .. string.char(50, 48 + #texts)
end
