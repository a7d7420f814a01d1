-- read_limits: everything that operators set, as this call consults it. Needs chain rules budget.
-- Answers the chain and the rules, or nil and the first field that is not valid.
local function read_limits(limits_key, agent, windows, now_ms)
    local scope = 'agent.' .. agent
    local names = rule_names(scope)
    local chain, bad_limit, values = read_chain(limits_key, agent, windows, names)
    if values and not chain then
        -- A missing hash fails for its status first: that is the field an operator must set.
        bad_limit = (not values[1] and 'status') or bad_limit
    end
    if not chain then
        return nil, bad_limit
    end
    local rules, bad_rule = read_rules(names, values, scope)
    local bad_field = bad_rule or read_budgets(limits_key, chain, now_ms)
    if bad_field then
        return nil, bad_field
    end
    return chain, rules
end
