-- is_status, read_rules: the settings that are not budgets, of read_fields' fields. Needs cents.
-- Answers the rules, or nil and the place of the field that is not valid. Numbers in millionths.
local function is_status(text)
    return text == 'active' or text == 'frozen'
end

local function read_rules(fields, scope)
    local agent_at = fields[4] and 4 or 5
    if not is_status(fields[1]) then
        return nil, 1
    end
    if fields[agent_at] and not is_status(fields[agent_at]) then
        return nil, agent_at
    end
    if fields[3] and (not string.find(fields[3], '^[1-9]%d*$') or #fields[3] > 8) then
        return nil, 3
    end
    local rules = {timezone = fields[2] or 'UTC', ttl_ms = fields[3], has_traffic = false,
        frozen = fields[1] == 'frozen' and 'org' or fields[agent_at] == 'frozen' and scope}
    for at = 6, 14 do
        -- The agent's own field stands before that of agent.*, which is then not consulted.
        if fields[at] and not (at >= 12 and fields[at - 3]) then
            local number = fields[at] ~= 'none' and microcents(fields[at])
            if number == nil then
                return nil, at
            end
            rules[at >= 12 and at - 3 or at] = number
            rules.has_traffic = rules.has_traffic or at % 3 > 0
        end
    end
    return rules, 0
end
