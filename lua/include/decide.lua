-- decide: whether an amount fits into every budget of a chain.
-- Answers 'DENIED' or 'BUSY' with the budget that refuses, or nil. Gives each budget its numbers:
-- available after the hold, and is_full, which soft and shadow budgets admit all the same.
local function decide(chain, windows, amount)
    local busy = nil
    for _, window in ipairs(windows) do
        local org, agent = window.org, window.agent
        -- A counter above 2^53-1 would lose cents; no mode admits that.
        if math.max(org.spent + org.held, agent.spent + agent.held) + amount > 9007199254740991 then
            return 'DENIED', {scope = 'org', kind = window.kind, window = window, mode = 'hard',
                limit = 9007199254740991, numbers = org}
        end
    end
    for _, budget in ipairs(chain) do
        local numbers = budget.scope == 'org' and budget.window.org or budget.window.agent
        local room = budget.limit + numbers.credit - numbers.spent
        budget.numbers = numbers
        budget.available = room - numbers.held - amount
        budget.is_full = amount > 0 and budget.available < 0
        budget.is_spent = amount > 0 and room < amount
        if budget.is_full and budget.mode == 'hard' then
            if budget.is_spent then
                return 'DENIED', budget
            end
            busy = busy or budget
        end
    end
    return busy and 'BUSY' or nil, busy
end
