-- notice, is_past_warning: the first denial and the first warning of a budget. Needs journal.

-- A mark holds the limit it was made at, so a raised limit arms it again.
local function notice(journal_key, spend_key, budget, mark, entry)
    local limit = string.format('%d', budget.limit + budget.credit)
    local field = budget.scope .. '.' .. mark
    if redis.call('HGET', spend_key, field) == limit then
        return false
    end
    redis.call('HSET', spend_key, field, limit)
    local window_id = string.match(entry.windows, budget.kind .. ':([^,]+)') or ''
    local detail = string.format('{"alert":"%s","budget":"%s.%s","window_id":"%s","mode":"%s",'
        .. '"limit_microcents":%d,"credit_microcents":%d,"spent_microcents":%d,'
        .. '"held_microcents":%d}', mark, budget.scope, budget.kind, window_id,
        budget.mode or 'hard', budget.limit, budget.credit, budget.spent, budget.held)
    append(journal_key, 'alert', entry.id, '', entry.org, entry.agent, '0', '0', entry.reserved_ms,
        string.format('%d', entry.at_ms), entry.windows, entry.epoch, detail)
    return true
end

-- warn_at in basis points, then exact up to the cap: floor(L/10000)*bp + floor((L%10000)*bp/10000).
-- A share that is not a decimal above 0 and at most 1 counts as 0.8: it never closes the gate.
local function is_past_warning(budget, used)
    local share, whole, fraction = 8000, nil, nil
    if budget.warn_at then
        local text = budget.warn_at == '1' and '1.0' or budget.warn_at
        whole, fraction = string.match(text, '^([01])%.(%d+)$')
    end
    if whole and #fraction <= 4 then
        local read = tonumber(whole .. fraction .. string.rep('0', 4 - #fraction))
        share = (read > 0 and read <= 10000) and read or 8000
    end
    local limit = budget.limit + budget.credit
    local threshold = math.floor(limit / 10000) * share + math.floor(limit % 10000 * share / 10000)
    return used > 0 and used >= threshold
end
