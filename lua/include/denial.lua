-- denial: a refusal by a full budget, told with its numbers.
local function denial(word, budget, end_ms)
    return {word, budget.scope .. '.' .. budget.kind, string.format('%d', budget.limit),
        string.format('%d', budget.credit), string.format('%d', budget.spent),
        string.format('%d', budget.held), end_ms}
end
