-- read_counters: the spend counters of an org and an agent in every window.

-- Fills the numbers of the chain. Answers the replies, one per window, and the budget that stands
-- for a window so near 2^53-1 that the amount would lose cents, or nil.
local function read_counters(first_key, count, scope, chain, amount_text)
    local replies, near_cap = {}, nil
    for place = 1, count do
        local values = redis.call('HMGET', KEYS[first_key + place - 1], 'org.held', 'org.spent',
            'org.credit', scope .. '.held', scope .. '.spent', scope .. '.credit')
        replies[place] = values
        -- 15 digits each: three of them stay below the cap, without a conversion.
        if #(values[1] or '') > 15 or #(values[2] or '') > 15 or #(values[4] or '') > 15
            or #(values[5] or '') > 15 or #amount_text > 15 then
            local used = math.max(tonumber(values[1] or 0) + tonumber(values[2] or 0),
                tonumber(values[4] or 0) + tonumber(values[5] or 0))
            if used + tonumber(amount_text) > 9007199254740991 then
                near_cap = {scope = 'org', kind = 'total', place = place, mode = 'hard',
                    limit = 9007199254740991, spent = used, held = 0, credit = 0}
            end
        end
    end
    for number = 1, #chain do
        local budget = chain[number]
        local values, at = replies[budget.place], budget.scope == 'org' and 0 or 3
        budget.held = tonumber(values[at + 1] or 0)
        budget.spent = tonumber(values[at + 2] or 0)
        budget.credit = tonumber(values[at + 3] or 0)
    end
    return replies, near_cap
end
