#!lua
--[[
extend -- give an open reservation more money, more time or both: absolute, and never less.

KEYS     [1]    limits    hash    written by operators, only read here
         [2]    meta      hash    sequence, billing status, running windows
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
         Counters that left by their TTL are not marked: that would bring the key back without one.
         end_ms is that of the running window; 0 for total, and where another window runs by now.
]]
--- @include "clock" "amount" "cents" "argument" "hold" "pack" "places" "fields" "place"
--- @include "settings" "chain" "rules" "asked" "budget" "limits" "close" "counters" "held"
--- @include "decide" "journal" "notice" "crossing" "ceiling" "denial" "bounds" "broken"
local id, org, agent, target, windows = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local now_ms, scope = time_ms(), 'agent.' .. agent
local meta = redis.call('HMGET', KEYS[2], 'seq', 'billing_status')
local function answer(reply)
    reply[#reply + 1], reply[#reply + 2] = tonumber(meta[1]) or 0, now_ms
    return reply
end

local bad = bad_argument({'id', '^%w+$', 'org', '^[%w_-]+$', 'agent', '^[%w_-]+$',
    'target_microcents', '^%d+$', 'ttl_ms', '^%d+$', 'windows', '^[%w:,_-]+$', 'epoch', '^%w+$'})
    or (not is_amount(target) and 'target_microcents') or (#ARGV[5] > 15 and 'ttl_ms')
if bad then
    return answer({'BADARG', bad})
end
local hold = read_hold(redis.call('HGET', KEYS[3], id))
if not hold then
    return answer({'GONE'})
end
if hold.windows ~= windows then
    return answer({'WINDOWS', hold.windows, hold.idem})
end
agent, scope = hold.agent, 'agent.' .. hold.agent
local more = math.max(0, tonumber(target) - tonumber(hold.amount))
local budget, bounds, warned = nil, '', ''
if more > 0 then
    local chain, rules = read_limits(KEYS[1], scope, (places_of(windows)), now_ms)
    if not chain then
        return answer({'LIMITS_INVALID', rules})
    end
    local frozen = rules.frozen or (meta[2] and meta[2] ~= 'ok' and 'billing')
    if frozen then
        return answer({'FROZEN', frozen})
    end
    local above = above_call_ceiling(rules, scope, tonumber(target))
    if above then
        return answer(above)
    end
    local entry = {id = id, org = org, agent = agent, reserved_ms = hold.reserved_ms,
        at_ms = now_ms, windows = windows, epoch = ARGV[7]}
    local missing, near_cap = read_counters(6, #KEYS - 5, scope, chain, digits(more))
    local broken = broken_counter(chain)
    if broken then
        return answer({'BADARG', broken})
    end
    bounds = bounds_of(KEYS[2], windows)
    -- A journal of another type fails here, before any money has moved.
    redis.call('XLEN', KEYS[5])
    local denied
    denied, budget = decide(chain, tonumber(target), tonumber(hold.amount))
    if near_cap or denied then
        denied, budget = denied or 'DENIED', denied and budget or near_cap
        local spend_key = KEYS[5 + budget.place]
        if denied == 'DENIED' and not (missing and missing[budget.place])
            and notice(KEYS[5], spend_key, budget, 'denied', entry) then
            meta[1] = redis.call('HINCRBY', KEYS[2], 'seq', 1)
        end
        return answer(denial(denied, budget, close_of(bounds, budget.kind)))
    end
    hold_counters(6, scope .. '.held', digits(more))
    local kept = missing and {} or chain
    if missing then
        --- @include "retention"
        keep_missing(6, missing, windows, bounds)
        for _, each in ipairs(chain) do
            kept[#kept + 1] = not missing[each.place] and each or nil
        end
    end
    warned = note_crossings(KEYS[5], 6, kept, more, entry)
end

local deadline_ms = digits(math.max(tonumber(hold.deadline_ms), now_ms + tonumber(ARGV[5])))
redis.call('HSET', KEYS[3], id, pack_hold(more > 0 and target or hold.amount, hold.owner,
    hold.agent, hold.key_id, hold.reserved_ms, deadline_ms, hold.body, hold.idem, windows))
redis.call('ZADD', KEYS[4], deadline_ms, org .. '|' .. id)
meta[1] = redis.call('HINCRBY', KEYS[2], 'seq', 1)
return held(deadline_ms, windows, bounds, budget, warned, meta[1], now_ms)
