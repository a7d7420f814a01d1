-- limits_text: all that the budgets of a call are made of, as one text.
-- meta keeps the budgets of the last admission, packed as `chain`, and as `limits` this text of
-- them. Where it is the same now, to the byte, there is nothing to look at again.
-- Its lines: fields and values, the kinds of this call's windows, the chain itself and, last, its
-- form and how many kinds, fields and values there are. What is remembered has no line break in it,
-- so with that many lines no other limits come to the same text.
local function limits_text(limits_key, packed)
    -- Bounded, as HGETALL is not: since then the hash may have got the limits of many agents.
    local scanned = redis.call('HSCAN', limits_key, '0', 'COUNT', '64')
    local texts, kinds = scanned[2], #ARGV - 16
    local count = #texts
    if scanned[1] ~= '0' or count > 64 then
        return nil
    end
    for at = 1, kinds do
        texts[count + at] = ARGV[at + 16]
    end
    texts[count + kinds + 1] = packed
    texts[count + kinds + 2] = string.char(49, 48 + kinds, 48 + count)
    return table.concat(texts, '\n')
end
