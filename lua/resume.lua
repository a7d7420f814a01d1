#!lua
--[[
resume -- hold again what was granted before this server forgot it, all or some of it. No budget
          is asked, and nothing is lowered.

KEYS     [1]    meta      hash    sequence, running windows
         [2]    holds     hash    reservation id to packed record
         [3]    expiry    zset    org|id by deadline
         [4]    done      string  how this id ended, if it did
         [5]    rate      hash    open counts
         [6]    idem      string  what has this idempotency key
         [7..]  spend     hash    one per window of the hold
ARGV     [1]    id                   ULID
         [2]    reserved_ms          the instant in the id
         [3]    org
         [4]    agent
         [5]    amount_microcents    0 .. 2^53-1
         [6]    ttl_ms               from now
         [7]    key_id               '' where the network is trusted
         [8]    owner                proxy | api
         [9]    body_digest
         [10]   idem_digest          '' for none
         [11]   windows              packed, as reserve answered them
RETURNS  BADARG argument | COLD | DONE state | RESUMED deadline_ms
         | HELD deadline_ms (it was there, and is raised to what is told; in other windows it stays)
         each followed by seq server_ms
WHY      The call runs, whatever budgets, keys and limits are by now: what is not held for it could
         be granted once more. After a loss even what was granted may not fit, beside holds whose
         ends were forgotten, or under a limit that was lowered. An older file may have the hold as
         it was before it was extended.
]]
--- @include "clock" "amount" "argument" "hold" "pack" "close" "held" "answer" "count" "bounds"
local id, reserved_ms, org, agent, amount, ttl_ms, key_id, owner, body, idem, windows = unpack(ARGV)
local now_ms = time_ms()
local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$', 'key_id', '^%w*$',
    'owner', '^%a+$', 'body_digest', '^%w*$', 'idem_digest', '^%w*$', 'windows', '^[%w:,_-]+$'})
    or (not is_amount(amount) and 'amount_microcents') or (#ttl_ms > 15 and 'ttl_ms')
if bad then
    return answer({'BADARG', bad}, KEYS[1], nil, now_ms)
end
if not redis.call('HGET', KEYS[1], 'schema') then
    return answer({'COLD'}, KEYS[1], nil, now_ms)
end
local ended, hold = read_end(redis.call('GET', KEYS[4])), read_hold(redis.call('HGET', KEYS[2], id))
if ended then
    return answer({'DONE', ended.state}, KEYS[1], nil, now_ms)
end
local missing, scope, deadline_ms = {}, 'agent.' .. agent, digits(now_ms + ttl_ms)
for place = 7, #KEYS do
    missing[place] = redis.call('EXISTS', KEYS[place]) == 0
end
if hold then
    local more = tonumber(amount) - tonumber(hold.amount)
    local is_later = now_ms + ttl_ms > tonumber(hold.deadline_ms)
    if hold.windows ~= windows or not (more > 0 or is_later) then
        return answer({'HELD', hold.deadline_ms}, KEYS[1], nil, now_ms)
    end
    deadline_ms, scope = is_later and deadline_ms or hold.deadline_ms, 'agent.' .. hold.agent
    redis.call('ZADD', KEYS[3], deadline_ms, org .. '|' .. id)
    local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
    for place = 7, more > 0 and #KEYS or 0 do
        -- Counters that left by their TTL are not brought back: they have none of this hold.
        if not missing[place] then
            redis.call('HINCRBY', KEYS[place], 'org.held', digits(more))
            redis.call('HINCRBY', KEYS[place], scope .. '.held', digits(more))
        end
    end
    redis.call('HSET', KEYS[2], id, pack_hold(more > 0 and amount or hold.amount, hold.owner,
        hold.agent, hold.key_id, hold.reserved_ms, deadline_ms, hold.body, hold.idem, windows))
    return answer({'HELD', deadline_ms}, KEYS[1], seq, now_ms)
end
local bounds = bounds_of(KEYS[1], windows)
redis.call('ZADD', KEYS[3], deadline_ms, org .. '|' .. id)
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('HINCRBY', KEYS[5], scope .. '.open', 1)
hold_counters(7, scope .. '.held', amount)
redis.call('HSET', KEYS[2], id, pack_hold(amount, owner, agent, key_id, reserved_ms, deadline_ms,
    body, idem, windows))
if idem ~= '' and redis.call('EXISTS', KEYS[6]) == 0 then
    count_call(KEYS[5], nil, KEYS[6], id .. '|' .. body)
end
local place = 6
for kind in string.gmatch(windows, '(%l+):?[%w-]*') do
    place = place + 1
    if missing[place] and kind ~= 'total' then
        -- Longer than any window runs, where its end is not known; who opens it says for how long.
        local end_ms = tonumber(close_of(bounds, kind))
        local days = (kind == 'hour' or kind == 'day') and end_ms > 0 and 2 or 40
        redis.call('PEXPIREAT', KEYS[place], digits(math.max(end_ms, now_ms) + days * 86400000))
    end
end
return answer({'RESUMED', deadline_ms}, KEYS[1], seq, now_ms)
