-- room: whether remembered budgets have so much left that nothing is refused and nothing warns.
-- No more: where three quarters are used, or a counter is no number, decide looks at every budget.
-- Answers true, the tightest budget or nil, the windows without a key or nil, hold_ttl_ms or nil.
local function room(packed, scope, amount)
    local call, match, next_at = redis.call, string.match, 1
    local least, tightest, least_own, tightest_own, missing
    for place = #KEYS - 9, 1, -1 do
        local key, kind, org, own, after = KEYS[place + 9],
            match(packed, '^(%l+)|(%d*)|(%d*);()', next_at)
        local values = own ~= '' and call('HMGET', key, 'org.held', 'org.spent', 'org.credit',
            scope .. '.held', scope .. '.spent', scope .. '.credit')
            or (org ~= '' and call('HMGET', key, 'org.held', 'org.spent', 'org.credit'))
            or call('HMGET', key, 'org.held', 'org.spent')
        local held, spent = (values[1] or 0) + 0, (values[2] or 0) + 0
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
            least, tightest = left, kind
        end
        if left_own and (not least_own or left_own < least_own) then
            least_own, tightest_own = left_own, kind
        end
        if not values[1] then
            missing = missing or {}
            missing[place] = true
        end
        next_at = after
    end
    local is_own = least_own and (not least or least_own < least)
    local kind, ttl_ms = is_own and tightest_own or tightest, string.sub(packed, next_at)
    return true, kind and {scope = is_own and scope or 'org', kind = kind,
        available = is_own and least_own or least}, missing, ttl_ms ~= '' and ttl_ms or nil
end
