#!lua
--[[
reserve -- hold an amount on every budget of the chain, or on none of them.

KEYS     [1]    limits    hash    written by operators, only read here
         [2]    meta      hash    sequence, clock, running windows
         [3]    keys      hash    key digest to key record
         [4]    holds     hash    reservation id to packed record
         [5]    expiry    zset    org|id by deadline
         [6]    done      string  how this id ended, if it did
         [7]    journal   stream  its length is read; first denials and warnings are appended
         [8]    rate      hash    arrivals and open counts
         [9]    idem      string  what has this idempotency key
         [10..] spend     hash    one per window, in the order of ARGV
ARGV     [1]    id                   ULID
         [2]    reserved_ms          the instant in the id
         [3]    org
         [4]    agent
         [5]    amount_microcents    0 .. 2^53-1
         [6]    ttl_ms               0 for the org's hold_ttl_ms, or else the next
         [7]    default_ttl_ms
         [8]    key_digest           '' trusts the network
         [9]    owner                proxy | api
         [10]   body_digest
         [11]   idem_digest          '' for none
         [12]   zone                 of the windows proposed
         [13]   journal_entries_max
         [14]   epoch
         [15..] windows              kind, id, start_ms, end_ms of each, shortest first
RETURNS  BADARG argument | CLOCK | COLD | UNKNOWN_KEY | KEY_EXPIRED | AGENT_NOT_ALLOWED
         | DONE state quote cost reserved_ms end_ms owner agent | HELD (again) | MISMATCH
         | IDEMPOTENT id body_digest state cost | LIMITS_INVALID field | FROZEN scope
         | WINDOW zone (kind id start_ms end_ms).. | JOURNAL_FULL | PER_CALL scope limit
         | DENIED or BUSY budget limit credit spent held end_ms | CONCURRENCY scope limit
         | RATE scope retry_ms | HELD deadline_ms windows budget available end_ms warnings
         each followed by seq server_ms
]]
--- @include "clock" "amount" "cents" "argument" "meta" "key" "hold" "known" "window" "chain"
--- @include "rules" "budget" "limits" "retention" "counters" "decide" "journal" "notice"
--- @include "crossing" "rate" "admission"
local id, org, agent, amount_text = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local scope, amount = 'agent.' .. agent, tonumber(amount_text)
local windows, packed, valid = read_windows(10, 15)
local meta = read_meta(KEYS[2], windows)
local server_ms = time_ms()
local now_ms = math.max(server_ms, meta.now_ms)

local function answer(reply)
    reply[#reply + 1], reply[#reply + 2] = meta.seq, now_ms
    return reply
end

local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'ttl_ms', '^%d+$',
    'default_ttl_ms', '^%d+$', 'key_digest', '^%w*$', 'owner', '^%a+$', 'body_digest', '^%w*$',
    'idem_digest', '^%w*$', 'zone', '^[%w/_+-]+$', 'journal_entries_max', '^%d+$', 'epoch', '^%w+$'})
    or (not valid and 'windows') or (not is_amount(amount_text) and 'amount_microcents')
if bad then
    return answer({'BADARG', bad})
end
if meta.now_ms - server_ms > 300000 or math.abs(tonumber(ARGV[2]) - server_ms) > 300000 then
    return answer({'CLOCK'})
end
if not meta.schema then
    return answer({'COLD'})
end
local key_found, key_id = find_key(KEYS[3], ARGV[8], agent, now_ms)
if key_found ~= 'OK' then
    return answer({key_found})
end
local asked = {agent = agent, amount = amount_text, body = ARGV[10]}
local known = known_reservation(redis.call('HGET', KEYS[4], id), redis.call('GET', KEYS[6]), asked)
    or (ARGV[11] ~= '' and known_key(redis.call('GET', KEYS[9])))
if known then
    return answer(known)
end
local chain, rules = read_limits(KEYS[1], agent, windows, now_ms)
if not chain then
    return answer({'LIMITS_INVALID', rules})
end
local frozen = rules.frozen or (meta.billing_status == 'frozen' and 'billing')
if frozen then
    return answer({'FROZEN', frozen})
end
if not windows_fit(windows, now_ms, ARGV[12] == rules.timezone) then
    return answer({'WINDOW', rules.timezone, unpack(running_windows(windows))})
end
if redis.call('XLEN', KEYS[7]) >= tonumber(ARGV[13]) then
    return answer({'JOURNAL_FULL'})
end
local refusing, ceiling = above_ceiling(rules, 'per_call', scope, amount, amount)
if refusing then
    return answer({'PER_CALL', refusing, digits(ceiling)})
end
read_counters(windows, scope)
local entry = {id = id, org = org, agent = agent, reserved_ms = ARGV[2], at_ms = now_ms,
    windows = packed, epoch = ARGV[14]}
local denied, budget = decide(chain, windows, amount)
if denied then
    if denied == 'DENIED' and notice(KEYS[7], budget, 'denied', entry) then
        write_meta(KEYS[2], meta, windows, ARGV[12], now_ms)
        keep_until(budget.window)
    end
    return answer(denial(denied, budget))
end
local refusal, arrivals = traffic(rules, scope, KEYS[4], KEYS[8], now_ms)
if refusal then
    return answer(refusal)
end
local ttl_ms = tonumber(ARGV[6] ~= '0' and ARGV[6] or rules.ttl_ms or ARGV[7])
local deadline_ms = digits(now_ms + ttl_ms)
write_meta(KEYS[2], meta, windows, ARGV[12], now_ms)
hold(windows, scope, amount_text)
redis.call('HSET', KEYS[4], id, pack_hold(amount_text, ARGV[9], agent, key_id, ARGV[2],
    deadline_ms, ARGV[10], ARGV[11], packed))
redis.call('ZADD', KEYS[5], deadline_ms, org .. '|' .. id)
redis.call('HINCRBY', KEYS[8], scope .. '.open', 1)
if #arrivals > 0 then
    redis.call('HSET', KEYS[8], unpack(arrivals))
end
if ARGV[11] ~= '' then
    redis.call('SET', KEYS[9], id .. '|' .. ARGV[10] .. '|held|0', 'PX', 86400000)
end
return answer(held(deadline_ms, packed, tightest(chain),
    note_crossings(KEYS[7], chain, amount, entry)))
