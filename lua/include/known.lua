-- known_reservation, known_key: ids and idempotency keys seen before. Needs amount hold.
-- A record that cannot be read refuses, and is named: what it stood for may have run.

-- Out of the records of its end and of its hold.
local function known_reservation(done_record, record, agent, amount, body)
    if done_record then
        local ended = read_end(done_record)
        return ended and {'DONE', ended.state, ended.quote, ended.actual, ended.reserved_ms,
            ended.end_ms, ended.owner, ended.agent} or {'BADARG', 'done'}
    end
    if not record then
        return nil
    end
    local hold = read_hold(record)
    if not hold then
        return {'BADARG', 'holds'}
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
    if record and not (id and is_amount(cost)) then
        return {'BADARG', 'idem'}
    end
    return id and {'IDEMPOTENT', id, body, state, cost}
end
