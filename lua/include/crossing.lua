-- note_crossings: the budgets that a hold leaves past warn_at or without room, by comma.
-- Journals the first time of each; a shadow budget is recorded, not told. Needs notice.
local function note_crossings(journal_key, first_key, chain, amount, entry)
    local warned = nil
    for number = 1, #chain do
        local budget = chain[number]
        local past = is_past_warning(budget, budget.spent + budget.held + amount)
        local spend_key = KEYS[first_key + budget.place - 1]
        if budget.is_spent then
            notice(journal_key, spend_key, budget, 'denied', entry)
        end
        if past then
            notice(journal_key, spend_key, budget, 'warned', entry)
        end
        if (past or budget.is_full) and budget.mode ~= 'shadow' then
            local name = budget.scope .. '.' .. budget.kind
            warned = warned and warned .. ',' .. name or name
        end
    end
    return warned or ''
end
