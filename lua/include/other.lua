-- other_end: a settle that does not name what is held. Needs amount hold.
-- Answers a refusal, or nil and status, counted, quote, agent, the body of an idempotency key
-- and the owner.
local function other_end(record, agent, cost, windows, idem)
    local hold = read_hold(record)
    local ended = not hold and read_end(redis.call('GET', KEYS[5]))
    if ended and (ended.state == 'settled' or (ended.state ~= 'expired' and cost == '0')) then
        return {ended.actual == cost and 'DONE' or 'DONE_OTHER', ended.actual, '0'}
    end
    local own = hold and hold.windows or (ended and ended.windows ~= '' and ended.windows)
        or windows
    if hold or own ~= windows then
        return {'WINDOWS', own, hold and hold.idem or idem}
    end
    if not ended then
        return nil, 'JOURNALED', '0', '0', agent, nil, ''
    end
    if ended.state ~= 'expired' then
        local are_kept = redis.call('EXISTS', unpack(KEYS, 9)) == #KEYS - 8
        return nil, 'VOIDED', are_kept and cost or '0', ended.quote, ended.agent, nil, ended.owner
    end
    -- Where the expiry gave back, a call of another id may have the idempotency key by now.
    local body = idem ~= '' and string.match(redis.call('GET', KEYS[8]) or '',
        '^' .. ARGV[1] .. '|(%w*)|')
    return nil, 'LATE', digits(tonumber(cost) - tonumber(ended.actual)), ended.quote, ended.agent,
        body, ended.owner
end
