-- above_ceiling, above_call_ceiling: refusals by a rule.

-- The org's rule before the agent's. Answers the scope and the number of the rule that refuses.
local function above_ceiling(rules, at, scope, org_number, agent_number)
    if rules[at] and org_number > rules[at] then
        return 'org', rules[at]
    end
    if rules[at + 3] and agent_number > rules[at + 3] then
        return scope, rules[at + 3]
    end
    return nil
end

local function above_call_ceiling(rules, scope, amount)
    local refusing, ceiling = above_ceiling(rules, 6, scope, amount, amount)
    return refusing and {'PER_CALL', refusing, string.format('%d', ceiling)}
end
