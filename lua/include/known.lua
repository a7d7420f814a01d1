-- known_reservation, known_key: ids and idempotency keys seen before. Needs hold.

-- Out of the records of its end and of its hold.
local function known_reservation(done_record, record, agent, amount, body)
    if done_record then
        local ended = read_end(done_record)
        return {'DONE', ended.state, ended.quote, ended.actual, ended.reserved_ms, ended.end_ms,
            ended.owner, ended.agent}
    end
    local hold = record and read_hold(record)
    if not hold then
        return nil
    end
    -- Since the first ask the hold may have been extended; less than was asked for it never is.
    if hold.agent ~= agent or hold.body ~= body or amount + 0 > hold.amount + 0 then
        return {'MISMATCH'}
    end
    return {'HELD', hold.deadline_ms, hold.windows, '', '0', '0', ''}
end

local function known_key(idem_key, digest)
    local record = digest ~= '' and redis.call('GET', idem_key)
    local id, body, state, cost = string.match(record or '', '^(%w+)|(%w*)|(%a+)|(%d+)$')
    return id and {'IDEMPOTENT', id, body, state, cost}
end
