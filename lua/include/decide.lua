-- decide: whether an amount, of which own is held already, fits into every budget of a chain.
-- Answers 'DENIED' or 'BUSY' with the budget that refuses, or nil and the tightest budget. Gives
-- each budget what is available after the hold, and is_full (no room but for holds) and is_spent
-- (no room at all), which soft and shadow budgets admit all the same.
local function decide(chain, amount, own)
    local busy, tightest = nil, nil
    for number = 1, #chain do
        local budget = chain[number]
        local room = budget.limit + budget.credit - budget.spent - amount
        budget.available = room - budget.held + own
        if budget.available < 0 and amount > 0 then
            budget.is_full, budget.is_spent = true, room < 0
            if not budget.mode and room < 0 then
                return 'DENIED', budget
            end
            busy = busy or (not budget.mode and budget) or nil
        end
        if budget.mode ~= 'shadow' and (not tightest or budget.available < tightest.available) then
            tightest = budget
        end
    end
    return busy and 'BUSY' or nil, busy or tightest
end
