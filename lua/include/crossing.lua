-- note_crossings, tightest, held: what a hold leaves of its budgets. Needs notice.
-- Answers the budgets past warn_at or without room, and journals the first time of each.
local function note_crossings(journal_key, chain, amount, entry)
    local warned = {}
    for _, budget in ipairs(chain) do
        local numbers = budget.numbers
        if budget.is_spent then
            notice(journal_key, budget, 'denied', entry)
        end
        local past = amount > 0 and is_past_warning(budget, numbers.spent + numbers.held + amount)
        if past then
            notice(journal_key, budget, 'warned', entry)
        end
        if budget.mode ~= 'shadow' and (past or budget.is_full) then
            warned[#warned + 1] = budget.scope .. '.' .. budget.kind
        end
    end
    return table.concat(warned, ',')
end

-- The budget with the least left after the hold; a shadow budget never refuses, so it never is.
local function tightest(chain)
    local least = nil
    for _, budget in ipairs(chain) do
        if budget.mode ~= 'shadow' and (not least or budget.available < least.available) then
            least = budget
        end
    end
    return least
end

local function held(deadline_ms, windows, budget, warned)
    return {'HELD', deadline_ms, windows, budget and budget.scope .. '.' .. budget.kind or '',
        string.format('%d', budget and budget.available or 0),
        string.format('%d', budget and budget.window.end_ms or 0), warned}
end
