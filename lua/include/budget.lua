-- read_budgets: mode, warning and override of each budget of a chain. Needs cents.
-- Answers nil, or the field that is not valid. An agent's setting falls back to that of agent.*.
local function read_budgets(limits_key, chain, now_ms)
    local names = {}
    for number = 1, #chain do
        local budget = chain[number]
        local own = budget.scope .. '.' .. budget.kind
        local shared = budget.scope == 'org' and own or 'agent.*.' .. budget.kind
        local at = #names
        names[at + 1], names[at + 2] = own .. '.mode', own .. '.warn_at'
        names[at + 3], names[at + 4] = own .. '.override_cents', own .. '.override_until'
        names[at + 5], names[at + 6] = shared .. '.mode', shared .. '.warn_at'
        names[at + 7], names[at + 8] = shared .. '.override_cents', shared .. '.override_until'
    end
    local values = redis.call('HMGET', limits_key, unpack(names))
    for number = 1, #chain do
        local budget, at = chain[number], number * 8 - 7
        local mode = values[at] or values[at + 4]
        budget.warn_at = values[at + 1] or values[at + 5]
        if mode and mode ~= 'hard' and mode ~= 'soft' and mode ~= 'shadow' then
            return names[values[at] and at or at + 4]
        end
        budget.mode = mode or 'hard'
        local text, ends = values[at + 2] or values[at + 6], values[at + 3] or values[at + 7]
        -- Only a valid end in the future makes an override: without one it would last for ever.
        ends = text and string.match(ends or '', '^%d+$')
        if ends and #ends <= 11 and tonumber(ends) * 1000 > now_ms then
            local override = microcents(text)
            if not override then
                return names[values[at + 2] and at + 2 or at + 6]
            end
            budget.limit = math.max(budget.limit, override)
        end
    end
    return nil
end
