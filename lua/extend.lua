#!lua
--[[
extend -- give an open reservation more money, more time or both: absolute, and never less.

KEYS     [1]    limits    hash    written by operators, only read here
         [2]    meta      hash    sequence, billing status
         [3]    holds     hash    reservation id to packed record
         [4]    expiry    zset    org|id by deadline
         [5]    journal   stream  first denials and warnings are appended
         [6..]  spend     hash    one per window of the record
ARGV     [1]    id                   ULID
         [2]    org
         [3]    agent
         [4]    target_microcents    what is to be held in all, 0 .. 2^53-1
         [5]    ttl_ms               from now
         [6]    windows              packed, as reserve answered them
         [7]    epoch
RETURNS  BADARG argument | GONE | WINDOWS windows idem_digest | LIMITS_INVALID field | FROZEN scope
         | PER_CALL scope limit | DENIED or BUSY budget limit credit spent held end_ms
         | HELD deadline_ms windows budget available end_ms warnings
         each followed by seq server_ms
WHY      More time alone is never refused: the money is held already, and the call is running.
]]
--- @include "clock" "amount" "cents" "argument" "hold" "chain" "rules" "budget" "limits"
--- @include "retention" "counters" "decide" "journal" "notice" "crossing" "rate" "admission"
--- @include "overage"
local id, org, agent, target = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now_ms, scope = time_ms(), 'agent.' .. ARGV[3]
local bad = bad_argument({'id', '^%w+$', 'org', '^[%w_-]+$', 'agent', '^[%w_-]+$',
    'target_microcents', '^%d+$', 'ttl_ms', '^%d+$', 'windows', '^[%w:,_-]+$', 'epoch', '^%w+$'})
    or (not is_amount(target) and 'target_microcents')
local windows = packed_windows(ARGV[6], 6)
local state = redis.call('HMGET', KEYS[2], 'seq', 'billing_status')
local seq = tonumber(state[1] or 0)
local record = read_hold(redis.call('HGET', KEYS[3], id))

local function answer(reply)
    reply[#reply + 1], reply[#reply + 2] = seq, now_ms
    return reply
end

if bad then
    return answer({'BADARG', bad})
end
if not record then
    return answer({'GONE'})
end
if record.windows ~= ARGV[6] then
    return answer({'WINDOWS', record.windows, record.idem})
end
local more = math.max(0, tonumber(target) - tonumber(record.amount))
local chain, warned = {}, ''
if more > 0 then
    local rules
    chain, rules = read_limits(KEYS[1], agent, windows, now_ms)
    if not chain then
        return answer({'LIMITS_INVALID', rules})
    end
    local frozen = rules.frozen or (state[2] == 'frozen' and 'billing')
    if frozen then
        return answer({'FROZEN', frozen})
    end
    local amount = tonumber(target)
    local refusing, ceiling = above_ceiling(rules, 'per_call', scope, amount, amount)
    if refusing then
        return answer({'PER_CALL', refusing, digits(ceiling)})
    end
    read_counters(windows, scope)
    local entry = {id = id, org = org, agent = agent, reserved_ms = record.reserved_ms,
        at_ms = now_ms, windows = ARGV[6], epoch = ARGV[7]}
    local denied, budget = decide(chain, windows, more)
    if denied then
        if denied == 'DENIED' and notice(KEYS[5], budget, 'denied', entry) then
            seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
        end
        return answer(denial(denied, budget))
    end
    hold(windows, scope, digits(more))
    warned = note_crossings(KEYS[5], chain, more, entry)
end

local deadline_ms = math.max(tonumber(record.deadline_ms), now_ms + tonumber(ARGV[5]))
local held_amount = more > 0 and target or record.amount
redis.call('HSET', KEYS[3], id, pack_hold(held_amount, record.owner, record.agent, record.key_id,
    record.reserved_ms, digits(deadline_ms), record.body, record.idem, record.windows))
redis.call('ZADD', KEYS[4], digits(deadline_ms), org .. '|' .. id)
seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
return answer(held(digits(deadline_ms), ARGV[6], tightest(chain), warned))
