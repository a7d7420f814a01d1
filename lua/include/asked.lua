-- ask_settings: the settings of a chain's budgets by name, where the limits hash is a large one.
local function ask_settings(limits_key, chain)
    local names, others = {}, {}
    for number = 1, #chain do
        local budget = chain[number]
        for _, payer in ipairs({budget.scope, budget.scope ~= 'org' and 'agent.*' or nil}) do
            local at, first = #names, payer .. '.' .. budget.kind
            names[at + 1], names[at + 2] = first .. '.mode', first .. '.warn_at'
            names[at + 3], names[at + 4] = first .. '.override_cents', first .. '.override_until'
        end
    end
    for at, value in ipairs(redis.call('HMGET', limits_key, unpack(names))) do
        others[names[at]] = value or nil
    end
    return others
end
