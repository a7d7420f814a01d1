#!lua flags=allow-oom
--[[
release -- give a hold back: nothing was spent. An unknown id is void: a late reserve meets that.

KEYS     [1]    meta      hash    sequence
         [2]    holds     hash    reservation id to packed record
         [3]    expiry    zset    org|id by deadline
         [4]    done      string  how this id ended
         [5]    rate      hash    open counts
         [6]    idem      string  what has this idempotency key; it is free again
         [7..]  spend     hash    one per window of the record
ARGV     [1]    id             ULID
         [2]    reserved_ms    the instant in the id
         [3]    org
         [4]    agent
         [5]    windows        packed, as reserve answered them, or as a gateway would propose
         [6]    idem_digest    as reserve was given it
RETURNS  BADARG argument | WINDOWS windows idem_digest | DONE state cost | VOID state cost
         | RELEASED state cost
         each followed by seq server_ms
]]
--- @include "clock" "amount" "sign" "argument" "hold" "spend" "tombstone" "idem"
local id, org, agent = ARGV[1], ARGV[3], ARGV[4]
local now_ms = time_ms()
local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'agent', '^[%w_-]+$', 'windows', '^[%w:,_-]+$', 'idem_digest', '^%w*$'})
local hold = read_hold(redis.call('HGET', KEYS[2], id))
local ended = not hold and read_end(redis.call('GET', KEYS[4]))

local function answer(...)
    local reply, seq = {...}, redis.call('HGET', KEYS[1], 'seq')
    reply[#reply + 1], reply[#reply + 2] = tonumber(seq) or 0, now_ms
    return reply
end

if bad then
    return answer('BADARG', bad)
end
if ended then
    return answer('DONE', ended.state, ended.actual)
end
if hold and (hold.windows ~= ARGV[5] or hold.idem ~= ARGV[6]) then
    return answer('WINDOWS', hold.windows, hold.idem)
end

redis.call('ZREM', KEYS[3], org .. '|' .. id)
local state, quote = 'void', '0'
if hold then
    state, quote, agent = 'released', hold.amount, hold.agent
    redis.call('HDEL', KEYS[2], id)
    if hold.idem ~= '' then
        end_key(KEYS[6], id, hold.body, 'released', '0')
    end
end
bury(KEYS[4], state, quote, '0', '0', ARGV[2], digits(now_ms), hold and hold.owner or '', agent,
    hold and hold.windows or '')
if hold then
    -- Money first: where somebody has made the rate another type, only open calls are miscounted.
    add(7, #KEYS, 'agent.' .. agent, negative(hold.amount), '0')
    redis.call('HINCRBY', KEYS[5], 'agent.' .. agent .. '.open', -1)
end
redis.call('HINCRBY', KEYS[1], 'seq', 1)
return answer(hold and 'RELEASED' or 'VOID', state, '0')
