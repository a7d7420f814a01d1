-- rule_names, read_rules, above_ceiling: the settings that are not budgets. Needs cents.
local function rule_names(scope)
    return {'status', 'timezone', 'hold_ttl_ms', scope .. '.status', 'agent.*.status',
        'org.per_call_cents', 'org.concurrency', 'org.rpm',
        scope .. '.per_call_cents', scope .. '.concurrency', scope .. '.rpm',
        'agent.*.per_call_cents', 'agent.*.concurrency', 'agent.*.rpm'}
end

-- Answers the rules, or nil and the field that is not valid. Numbers come in millionths.
local function read_rules(names, values, scope)
    local org_status, ttl_ms = values[1], values[3]
    local agent_at = values[4] and 4 or 5
    local agent_status = values[agent_at]
    if org_status ~= 'active' and org_status ~= 'frozen' then
        return nil, 'status'
    end
    if agent_status and agent_status ~= 'active' and agent_status ~= 'frozen' then
        return nil, names[agent_at]
    end
    if ttl_ms and (not string.find(ttl_ms, '^[1-9]%d*$') or #ttl_ms > 8) then
        return nil, 'hold_ttl_ms'
    end
    local rules = {timezone = values[2] or 'UTC', ttl_ms = ttl_ms, org = {}, agent = {},
        frozen = org_status == 'frozen' and 'org' or agent_status == 'frozen' and scope}
    for place, rule in ipairs({'per_call', 'concurrency', 'rpm'}) do
        for _, at in ipairs({5 + place, values[8 + place] and 8 + place or 11 + place}) do
            local number = values[at] and values[at] ~= 'none' and microcents(values[at])
            if number == nil then
                return nil, names[at]
            end
            rules[at < 9 and 'org' or 'agent'][rule] = number
        end
    end
    return rules
end
