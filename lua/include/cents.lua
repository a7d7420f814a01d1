-- microcents: a limit as operators write it, in cents with at most six decimals.
local function microcents(cents)
    if string.find(cents, '^%d+$') then
        -- A product below 2^53 is exact, and what lies above is refused.
        local amount = #cents <= 10 and tonumber(cents) * 1000000
        return amount and amount <= 9007199254740991 and amount or nil
    end
    local whole, fraction = string.match(cents, '^(%d+)%.(%d+)$')
    if not whole or #whole > 10 or #fraction > 6 then
        return nil
    end
    -- Joined as text, because a decimal multiplied as a double would round.
    local amount = tonumber(whole .. fraction .. string.rep('0', 6 - #fraction))
    return amount <= 9007199254740991 and amount or nil
end
