-- broken_counter: the name of a budget whose counters are no numbers of the scripts, or nil.
-- Lua reads nan and -inf as numbers, too, and nothing that is compared with those is refused.
local function broken_counter(chain)
    for number = 1, #chain do
        local budget = chain[number]
        local sum = budget.spent + budget.held + budget.credit
        if not (sum > -1e17 and sum < 1e17) then
            return budget.scope .. '.' .. budget.kind
        end
    end
    return nil
end
