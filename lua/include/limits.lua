-- read_limits: everything that operators set, as this call consults it.
-- Needs fields settings chain rules budget. Answers chain, rules and the whole hash where it
-- was read whole, or nil and the field that is not valid.
local function read_limits(limits_key, scope, places, now_ms)
    local fields, others, all = read_settings(limits_key, scope)
    local rules, bad_rule = read_rules(fields, scope)
    if not rules then
        return nil, field_name(bad_rule, scope)
    end
    local chain, bad_limit = read_chain(fields, scope, places)
    if not chain then
        return nil, bad_limit > 0 and field_name(bad_limit, scope) or 'org.<window>.limit_cents'
    end
    -- Most hashes hold no further setting.
    local bad_setting = #chain > 0 and (not others or next(others))
        and read_budgets(limits_key, chain, now_ms, others)
    if bad_setting then
        return nil, bad_setting
    end
    return chain, rules, all
end
