-- room: whether remembered budgets have so much left that nothing is refused and nothing warns.
-- No more: where three quarters are used, or a counter is no number, decide looks at every budget.
-- Answers true, the tightest budget or nil, the windows without a key or nil, hold_ttl_ms or nil.
local function room(packed, scope, amount)
    local ttl_ms, next_at = string.match(packed, '^(%d*)/()')
    local least, tightest, least_own, tightest_own, missing
    for place = #ARGV - 16, 1, -1 do
        local org, own, after = string.match(packed, '^(%d*)|(%d*);()', next_at)
        local key = KEYS[place + 9]
        local values = own ~= '' and redis.call('HMGET', key, 'org.held', 'org.spent', 'org.credit',
            scope .. '.held', scope .. '.spent', scope .. '.credit')
            or (org ~= '' and redis.call('HMGET', key, 'org.held', 'org.spent', 'org.credit'))
            or redis.call('HMGET', key, 'org.held', 'org.spent')
        local held, spent = values[1] or 0, values[2] or 0
        local limit = org ~= '' and org + (values[3] or 0)
        local left = limit and limit - spent - amount - held
        local limit_own = own ~= '' and own + (values[6] or 0)
        local left_own = limit_own and limit_own - (values[5] or 0) - amount - (values[4] or 0)
        if not (held + spent + amount <= 9007199254740991
            and (not left or (left * 4 > limit + 16 and left < 1e17))
            and (not left_own or (left_own * 4 > limit_own + 16 and left_own < 1e17))) then
            return false
        end
        if left and (not least or left < least) then
            least, tightest = left, place
        end
        if left_own and (not least_own or left_own < least_own) then
            least_own, tightest_own = left_own, place
        end
        if not values[1] then
            missing = missing or {}
            missing[place] = true
        end
        next_at = after
    end
    local is_own = least_own and (not least or least_own < least)
    local place = is_own and tightest_own or tightest
    return true, place and {scope = is_own and scope or 'org', kind = ARGV[place + 16],
        available = is_own and least_own or least}, missing, ttl_ms ~= '' and ttl_ms or nil
end
