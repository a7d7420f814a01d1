-- known_reservation, known_key, hold_key: ids and idempotency keys seen before. Needs hold.
local function known_reservation(holds_key, done_key, id, agent, amount, body)
    local done_record = redis.call('GET', done_key)
    if done_record then
        local ended = read_end(done_record)
        return {'DONE', ended.state, ended.quote, ended.actual, ended.reserved_ms, ended.end_ms,
            ended.owner, ended.agent}
    end
    local record = redis.call('HGET', holds_key, id)
    local hold = record and read_hold(record)
    if not hold then
        return nil
    end
    if hold.agent ~= agent or hold.amount ~= amount or hold.body ~= body then
        return {'MISMATCH'}
    end
    return {'HELD', hold.deadline_ms, hold.windows, '', '0', '0', ''}
end

local function known_key(record)
    local id, body, state, cost = string.match(record or '', '^(%w+)|(%w*)|(%a+)|(%d+)$')
    return id and {'IDEMPOTENT', id, body, state, cost}
end

local function hold_key(idem_key, digest, id, body)
    if digest ~= '' then
        redis.call('SET', idem_key, id .. '|' .. body .. '|held|0', 'PX', 86400000)
    end
end
