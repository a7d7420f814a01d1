#!lua flags=allow-oom
--[[
expire -- end reservations whose deadline has passed: charge them, or give them back.

KEYS     [1]    limits    hash    on_expiry
         [2]    meta      hash    sequence
         [3]    holds     hash    reservation id to packed record
         [4]    expiry    zset    org|id by deadline
         [5]    journal   stream  one expire entry each
         [6]    rate      hash    open counts
         [7..]  spend     hash    one per window of the records
         [..]   done      string  for each id: how it ended
         [..]   idem      string  behind each done: what has its idempotency key
ARGV     [1]    org
         [2]    windows    packed; a record of other windows is left alone
         [3]    epoch
         [4..]  ids        at most 100
RETURNS  BADARG argument | EXPIRED state... (one per id: expired released held settled void gone
         windows corrupt)
         each followed by seq server_ms
WHY      on_expiry is charge unless it says release: the upstream may have billed the call. A
         record that cannot be read leaves the index, so that it is not tried for ever. Where
         nothing ends, seq is not written: before Redis 7 full memory refuses such a first write.
]]
--- @include "clock" "amount" "sign" "argument" "hold" "spend" "journal" "tombstone" "idem"
local org, packed = ARGV[1], ARGV[2]
local now_ms = time_ms()
local at_ms = digits(now_ms)
local bad = bad_argument({'org', '^[%w_-]+$', 'windows', '^[%w:,_-]+$', 'epoch', '^%w+$'})
    or (#ARGV > 103 and 'ids')
local _, commas = string.gsub(packed, ',', '')
local first_done = 7 + commas + 1
local releases = redis.call('HGET', KEYS[1], 'on_expiry') == 'release'
local has_ended = false

local function finish(id, hold, done_key, idem_key)
    local charged = releases and '0' or hold.amount
    local state, scope = releases and 'released' or 'expired', 'agent.' .. hold.agent
    has_ended = true
    redis.call('ZREM', KEYS[4], org .. '|' .. id)
    redis.call('HDEL', KEYS[3], id)
    bury(done_key, 'expired', hold.amount, charged, charged, hold.reserved_ms, at_ms, hold.owner,
        hold.agent, packed)
    if hold.idem ~= '' then
        end_key(idem_key, id, hold.body, state, charged)
    end
    append(KEYS[5], 'expire', id, '', org, hold.agent, charged, charged, hold.reserved_ms, at_ms,
        packed, ARGV[3], '{"source":"' .. state .. '","key_id":"' .. hold.key_id .. '"}')
    add(7, first_done - 1, scope, negative(hold.amount), charged)
    redis.call('HINCRBY', KEYS[6], scope .. '.open', -1)
    return state
end

local function expire(id, done_key, idem_key)
    local member, record = org .. '|' .. id, redis.call('HGET', KEYS[3], id)
    local hold = record and read_hold(record)
    if not hold then
        redis.call('ZREM', KEYS[4], member)
        local ended = read_end(redis.call('GET', done_key))
        return record and 'corrupt' or (ended and ended.state) or 'gone'
    end
    if hold.windows ~= packed then
        return 'windows'
    end
    return tonumber(hold.deadline_ms) > now_ms and 'held' or finish(id, hold, done_key, idem_key)
end

local reply = bad and {'BADARG', bad} or {'EXPIRED'}
-- A journal of another type fails here, before any money has moved.
redis.call('XLEN', KEYS[5])
for at = 4, bad and 0 or #ARGV do
    local place = first_done + (at - 4) * 2
    reply[#reply + 1] = expire(ARGV[at], KEYS[place], KEYS[place + 1])
end
local seq = has_ended and redis.call('HINCRBY', KEYS[2], 'seq', 1)
    or tonumber(redis.call('HGET', KEYS[2], 'seq')) or 0
reply[#reply + 1], reply[#reply + 2] = seq, now_ms
return reply
