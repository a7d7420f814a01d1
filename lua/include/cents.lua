-- microcents: a limit as operators write it, in cents with at most six decimals.
-- Joined as text, because a decimal multiplied as a double would round.
local function microcents(cents)
    local whole, fraction = string.match(cents, '^(%d+)$'), ''
    if not whole then
        whole, fraction = string.match(cents, '^(%d+)%.(%d+)$')
    end
    if not whole or #whole > 10 or #fraction > 6 then
        return nil
    end
    local amount = tonumber(whole .. fraction .. string.rep('0', 6 - #fraction))
    return amount <= 9007199254740991 and amount or nil
end
