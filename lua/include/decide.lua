-- decide: whether an amount, of which own is held already, fits into every budget of a chain.
-- Answers 'DENIED' or 'BUSY' with the budget that refuses, or nil and the tightest budget. Gives
-- each budget what is available after the hold, and is_full (no room but for holds) and is_spent
-- (no room at all), which soft and shadow budgets admit all the same. Third, whether there may be
-- a crossing to note: a share that is not set is 0.8, and below three quarters nothing is past it.
local function decide(chain, amount, own)
    local busy, tightest, least, may_cross = nil, nil, nil, false
    for number = 1, #chain do
        local budget = chain[number]
        local limit, mode = budget.limit + budget.credit, budget.mode
        local room = limit - budget.spent - amount
        local available = room - budget.held + own
        budget.available = available
        if available < 0 and amount > 0 then
            budget.is_full, budget.is_spent, may_cross = true, room < 0, true
            if not mode and room < 0 then
                return 'DENIED', budget, true
            end
            busy = busy or (not mode and budget) or nil
        end
        if available * 4 <= limit + 16 or budget.warn_at then
            may_cross = true
        end
        if mode ~= 'shadow' and (not tightest or available < least) then
            tightest, least = budget, available
        end
    end
    return busy and 'BUSY' or nil, busy or tightest, may_cross
end
