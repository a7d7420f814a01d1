#!lua
--[[
reserve -- the floor: an amount held on day, month and total of an org and an agent, or on none.

KEYS     [1] limits [2] meta [3] day [4] month [5] total [6] holds [7] expiry [8] done
ARGV     [1] id [2] amount [3] ttl_ms [4] agent [5] [6] start and end of the day [7] [8] of the month
RETURNS  DONE record | HELD again | WINDOW now | INVALID field | DENIED window
         | HELD and what each limit leaves
WHY      No product: limits are read as floats, and there are no keys, modes, credits, warnings,
         rates or idempotency keys. It is what a reservation cannot do without.
]]
local id, amount_text, agent = ARGV[1], ARGV[2], 'agent.' .. ARGV[4] .. '.'
local ended = redis.call('GET', KEYS[8])
if ended then
    return {'DONE', ended}
end
if redis.call('HGET', KEYS[6], id) then
    return {'HELD', 'again'}
end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
for place = 5, 7, 2 do
    if now_ms < tonumber(ARGV[place]) or now_ms >= tonumber(ARGV[place + 1]) then
        return {'WINDOW', now_ms}
    end
end
local amount = tonumber(amount_text)
local names = {
    'org.day.limit_cents', 'org.month.limit_cents', 'org.total.limit_cents',
    agent .. 'day.limit_cents', agent .. 'month.limit_cents', agent .. 'total.limit_cents',
    'agent.*.day.limit_cents', 'agent.*.month.limit_cents', 'agent.*.total.limit_cents',
    'org.day.mode', 'org.month.mode', 'org.total.mode', 'agent.day.mode', 'status',
}
local limits = redis.call('HMGET', KEYS[1], unpack(names))
local org_held, org_spent = 'org.held', 'org.spent'
local agent_held, agent_spent = agent .. 'held', agent .. 'spent'
local reply = {'HELD'}
for window = 1, 3 do
    local used = redis.call('HMGET', KEYS[window + 2], org_spent, org_held, agent_spent, agent_held)
    local texts = {limits[window], limits[window + 3] or limits[window + 6]}
    for payer = 1, 2 do
        local text, left = texts[payer], -1
        if text then
            if not string.find(text, '^%d+%.?%d*$') then
                return {'INVALID', names[window]}
            end
            local limit = math.floor(tonumber(text) * 1e6 + 0.5)
            left = limit - tonumber(used[payer * 2 - 1] or 0) - tonumber(used[payer * 2] or 0)
                - amount
            if left < 0 then
                return {'DENIED', window}
            end
        end
        reply[#reply + 1] = left
    end
end
for place = 3, 5 do
    redis.call('HINCRBY', KEYS[place], org_held, amount_text)
    redis.call('HINCRBY', KEYS[place], agent_held, amount_text)
end
redis.call('HSET', KEYS[6], id,
    'R|' .. amount_text .. '|' .. ARGV[4] .. '|' .. KEYS[3] .. '|' .. KEYS[4])
redis.call('ZADD', KEYS[7], now_ms + tonumber(ARGV[3]), id)
reply[#reply + 1] = redis.call('HINCRBY', KEYS[2], 'seq', 1)
return reply
