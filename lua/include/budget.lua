-- read_budgets: mode, warning, override and counters of each budget of a chain. Needs cents.
-- Answers nil, or the field that is not valid.
local function read_budgets(limits_key, chain, now_ms)
    local names, settings = {}, {'.mode', '.warn_at', '.override_cents', '.override_until'}
    for _, budget in ipairs(chain) do
        for _, setting in ipairs(settings) do
            local shared = budget.scope == 'org' and 'org.' or 'agent.*.'
            names[#names + 1] = budget.scope .. '.' .. budget.kind .. setting
            names[#names + 1] = shared .. budget.kind .. setting
        end
    end
    local values = #names > 0 and redis.call('HMGET', limits_key, unpack(names)) or {}
    for place, budget in ipairs(chain) do
        local at = place * 8 - 7
        local function value(offset)
            return values[at + offset] or values[at + offset + 1]
        end
        local function field(offset)
            return names[values[at + offset] and at + offset or at + offset + 1]
        end
        budget.mode, budget.warn_at = value(0) or 'hard', value(2)
        if budget.mode ~= 'hard' and budget.mode ~= 'soft' and budget.mode ~= 'shadow' then
            return field(0)
        end
        -- Only a valid end in the future makes an override: without one it would last for ever.
        local ends = string.match(value(6) or '', '^%d+$')
        if value(4) and ends and #ends <= 11 and tonumber(ends) * 1000 > now_ms then
            local override = microcents(value(4))
            if not override then
                return field(4)
            end
            budget.limit = math.max(budget.limit, override)
        end
    end
    return nil
end
