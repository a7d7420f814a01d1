-- read_chain: the limited budgets that must all pay, out of the fields of read_fields. Needs cents.
-- Org before agent, the longer window before the shorter: the order in which they refuse.
-- places: window kind to its place among the spend keys. Answers the chain, or nil and the place
-- of the field that is not valid, 0 where no window of the org is named.
local function read_chain(fields, scope, places)
    local kinds, org_is_named = {'total', 'month', 'week', 'day', 'hour'}, false
    local chain = {nil, nil, nil, nil}
    for first = 15, 16 do
        for number = 1, 5 do
            local at = first + number * 3 - 3
            local text = fields[at]
            if first == 16 and not text then
                at = at + 1
                text = fields[at]
            end
            if text then
                local kind = kinds[number]
                local place, limit = places[kind], text ~= 'none' and microcents(text)
                if limit == nil or not place then
                    return nil, at
                end
                org_is_named = org_is_named or first == 15
                if limit then
                    -- Every field at once: a table that grows is copied at each power of two.
                    -- No mode is hard; a rare setting comes later and may cost that.
                    chain[#chain + 1] = {scope = first == 15 and 'org' or scope, kind = kind,
                        place = place, limit = limit, spent = 0, held = 0, credit = 0,
                        available = 0}
                end
            end
        end
    end
    return org_is_named and chain or nil, 0
end
