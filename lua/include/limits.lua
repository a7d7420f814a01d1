-- read_limits: everything that operators set, as this call consults it.
-- Needs fields chain rules budget. Answers chain and rules, or nil and the field that is not valid.
local function read_limits(limits_key, scope, places, now_ms)
    local fields = read_fields(limits_key, scope)
    local rules, bad_rule = read_rules(fields, scope)
    if not rules then
        return nil, field_name(bad_rule, scope)
    end
    local chain, bad_limit = read_chain(fields, scope, places)
    if not chain then
        return nil, bad_limit > 0 and field_name(bad_limit, scope) or 'org.<window>.limit_cents'
    end
    local bad_setting = nil
    -- Where all that the hash holds was read already, there is no further setting.
    local found = 0
    for at = 1, 29 do
        found = fields[at] and found + 1 or found
    end
    if #chain > 0 and redis.call('HLEN', limits_key) > found then
        bad_setting = read_budgets(limits_key, chain, now_ms)
    end
    if bad_setting then
        return nil, bad_setting
    end
    return chain, rules
end
