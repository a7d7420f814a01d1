#!lua flags=allow-oom
--[[
settle -- the floor: a hold replaced by what the call has cost, with a tombstone and one entry.

KEYS     [1] meta [2] day [3] month [4] total [5] holds [6] expiry [7] done [8] journal
ARGV     [1] id [2] cost [3] agent [4] detail
RETURNS  DONE record | GONE | SETTLED seq
]]
local id, cost, agent = ARGV[1], ARGV[2], 'agent.' .. ARGV[3] .. '.'
local ended = redis.call('GET', KEYS[7])
if ended then
    return {'DONE', ended}
end
local hold = redis.call('HGET', KEYS[5], id)
if not hold then
    return {'GONE'}
end
local given_back = '-' .. string.match(hold, '^R|(%d+)|')
for place = 2, 4 do
    redis.call('HINCRBY', KEYS[place], 'org.held', given_back)
    redis.call('HINCRBY', KEYS[place], agent .. 'held', given_back)
    redis.call('HINCRBY', KEYS[place], 'org.spent', cost)
    redis.call('HINCRBY', KEYS[place], agent .. 'spent', cost)
end
redis.call('HDEL', KEYS[5], id)
redis.call('ZREM', KEYS[6], id)
redis.call('SET', KEYS[7], 'S|' .. cost, 'PX', 900000)
redis.call('XADD', KEYS[8], '*', 'id', id, 'kind', 'settle', 'org', 'floor', 'agent', ARGV[3],
    'amount', cost, 'detail', ARGV[4])
return {'SETTLED', redis.call('HINCRBY', KEYS[1], 'seq', 1)}
