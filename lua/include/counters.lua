-- read_counters: the spend counters of an org and an agent in every window.

-- Fills the numbers of the chain, and reads no more than it and the check of the cap need. Answers
-- the places of the windows without a key, or nil; and the budget that stands for a window so near
-- 2^53-1 that the amount would lose cents, or nil. An agent's counters never exceed its org's.
local function read_counters(first_key, count, scope, chain, amount_text)
    local missing, near_cap, is_long = nil, nil, #amount_text > 15
    local orgs, owns = {nil, nil, nil, nil, nil}, {nil, nil, nil, nil, nil}
    for number = 1, #chain do
        local budget = chain[number]
        local payers = budget.scope == 'org' and orgs or owns
        payers[budget.place] = budget
    end
    for place = 1, count do
        local key, org, own = KEYS[first_key + place - 1], orgs[place], owns[place]
        local values = own and redis.call('HMGET', key, 'org.held', 'org.spent', 'org.credit',
            scope .. '.held', scope .. '.spent', scope .. '.credit')
            or (org and redis.call('HMGET', key, 'org.held', 'org.spent', 'org.credit'))
            or redis.call('HMGET', key, 'org.held', 'org.spent')
        local held, spent = values[1], values[2] or '0'
        if not held then
            missing, held = missing or {}, '0'
            missing[place] = true
        end
        if org then
            org.held, org.spent, org.credit = held + 0, spent + 0, (values[3] or 0) + 0
        end
        if own then
            own.held, own.spent, own.credit =
                (values[4] or 0) + 0, (values[5] or 0) + 0, (values[6] or 0) + 0
        end
        -- 15 digits each: three of them stay below the cap, without a conversion.
        if (#held > 15 or #spent > 15 or is_long)
            and held + spent + amount_text > 9007199254740991 then
            near_cap = {scope = 'org', kind = 'total', place = place, limit = 9007199254740991,
                spent = held + spent, held = 0, credit = 0}
        end
    end
    return missing, near_cap
end
