-- read_budgets: mode, warning and override of each budget of a chain. Needs asked cents.
-- others: the settings by name, or nil where they are still to be asked for.
-- Answers nil, or the field that is not valid. An agent's setting falls back to that of agent.*.
local function read_budgets(limits_key, chain, now_ms, others)
    others = others or ask_settings(limits_key, chain)
    for number = 1, #chain do
        local budget = chain[number]
        local own = budget.scope .. '.' .. budget.kind
        local shared = budget.scope == 'org' and own or 'agent.*.' .. budget.kind
        local mode_name = others[own .. '.mode'] and own .. '.mode' or shared .. '.mode'
        local mode = others[mode_name]
        if mode and mode ~= 'hard' and mode ~= 'soft' and mode ~= 'shadow' then
            return mode_name
        end
        budget.mode = mode ~= 'hard' and mode or nil
        budget.warn_at = others[own .. '.warn_at'] or others[shared .. '.warn_at']
        -- Only a valid end in the future makes an override: without one it would last for ever.
        local ends = others[own .. '.override_until'] or others[shared .. '.override_until'] or ''
        if #ends <= 11 and string.find(ends, '^%d+$') and tonumber(ends) * 1000 > now_ms then
            local name = others[own .. '.override_cents'] and own or shared
            local text = others[name .. '.override_cents']
            local override = text and microcents(text)
            if text and not override then
                return name .. '.override_cents'
            end
            budget.limit = math.max(budget.limit, override or 0)
        end
    end
    return nil
end
