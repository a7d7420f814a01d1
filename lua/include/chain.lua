-- read_chain: the limited budgets that must all pay. Needs cents.
-- Org before agent, the longer window before the shorter: the order in which they refuse.
-- Answers the chain and the values of further settings, or nil and the field that is not valid.
local function read_chain(limits_key, agent, windows, settings)
    local scopes = {'org', 'agent.' .. agent, 'agent.*'}
    local kinds = {'total', 'month', 'week', 'day', 'hour'}
    local names, counted = {}, {}
    for _, kind in ipairs(kinds) do
        for _, scope in ipairs(scopes) do
            names[#names + 1] = scope .. '.' .. kind .. '.limit_cents'
        end
    end
    for _, name in ipairs(settings) do
        names[#names + 1] = name
    end
    for _, window in ipairs(windows) do
        counted[window.kind] = window
    end
    local values = redis.call('HMGET', limits_key, unpack(names))
    local chain, org_is_named = {}, false
    for scope = 1, 2 do
        for place, kind in ipairs(kinds) do
            local at = place * 3 - 3 + scope
            at = (scope == 2 and not values[at]) and at + 1 or at
            local text, window = values[at], counted[kind]
            local limit = text and text ~= 'none' and microcents(text)
            if text and (limit == nil or not window) then
                return nil, names[at]
            end
            org_is_named = org_is_named or (scope == 1 and text ~= false)
            if limit then
                chain[#chain + 1] =
                    {scope = scopes[scope], kind = kind, window = window, limit = limit}
            end
        end
    end
    return org_is_named and chain or nil, 'org.<window>.limit_cents', {unpack(values, 16)}
end
