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
         [15]   windows              packed kind:id,... shortest first
         [16]   proposal             packed kind|id|start_ms|end_ms,... the same windows
         [17..] kinds                of the same windows, one each
RETURNS  BADARG argument | CLOCK | COLD | UNKNOWN_KEY | KEY_EXPIRED | AGENT_NOT_ALLOWED
         | DONE state quote cost reserved_ms end_ms owner agent | HELD (again) | MISMATCH
         | IDEMPOTENT id body_digest state cost | LIMITS_INVALID field | FROZEN scope
         | WINDOW zone (kind id start_ms end_ms).. | JOURNAL_FULL | PER_CALL scope limit
         | DENIED or BUSY budget limit credit spent held end_ms | CONCURRENCY scope limit
         | RATE scope retry_ms | HELD deadline_ms windows budget available end_ms warnings
         each followed by seq server_ms
]]
--- @include "clock" "amount" "cents" "ask" "key" "pack" "places" "fields" "place" "settings"
--- @include "chain" "rules" "asked" "budget" "limits" "retention" "counters" "held" "decide"
--- @include "journal" "notice" "crossing" "admission" "count"
local id, org, agent, amount_text, windows = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[15]
local scope, amount, idem = 'agent.' .. agent, tonumber(amount_text), ARGV[11]
local meta = redis.call('HMGET', KEYS[2], 'schema', 'now', 'billing_status', 'running', 'until')
local server_ms, stored_ms = time_ms(), (meta[2] or 0) + 0
local now_ms = math.max(server_ms, stored_ms)
local refusal, opening, arrivals, seq
local function answer(reply)
    seq = seq or tonumber(redis.call('HGET', KEYS[2], 'seq') or 0)
    reply[#reply + 1], reply[#reply + 2] = seq, now_ms
    return reply
end
if not is_ask() then
    --- @include "argument" "bad_ask"
    return answer({'BADARG', bad_ask()})
end
local is_skewed = math.max(stored_ms - server_ms, math.abs(ARGV[2] - server_ms)) > 300000
local key_found, key_id = find_key(KEYS[3], ARGV[8], agent, now_ms)
if is_skewed or not meta[1] or key_found ~= 'OK' then
    return answer({(is_skewed and 'CLOCK') or (not meta[1] and 'COLD') or key_found})
end
local ended, open = redis.call('GET', KEYS[6]), redis.call('HGET', KEYS[4], id)
if ended or open or idem ~= '' then
    --- @include "hold" "known"
    refusal = known_reservation(ended, open, agent, amount_text, ARGV[10])
        or known_key(KEYS[9], idem)
end
local chain, rules = read_limits(KEYS[1], scope, kinds_from(17), now_ms)
refusal = refusal or (not chain and {'LIMITS_INVALID', rules})
    or (rules.frozen and {'FROZEN', rules.frozen})
    or (meta[3] == 'frozen' and {'FROZEN', 'billing'})
if not refusal and (meta[4] ~= ARGV[16] or now_ms >= meta[5] + 0) then
    --- @include "window" "running"
    refusal, opening = opening_windows(KEYS[2], ARGV[16], ARGV[12], rules.timezone, now_ms)
end
refusal = refusal or (redis.call('XLEN', KEYS[7]) >= ARGV[13] + 0 and {'JOURNAL_FULL'})
    or above_call_ceiling(rules, scope, amount)
if refusal then
    return answer(refusal)
end
local entry = {id = id, org = org, agent = agent, reserved_ms = ARGV[2], at_ms = now_ms,
    windows = windows, epoch = ARGV[14]}
local found, near_cap = read_counters(10, #KEYS - 9, scope, chain, amount_text)
local denied, budget = decide(chain, amount, 0)
if near_cap or denied then
    denied, budget = denied or 'DENIED', denied and budget or near_cap
    local spend_key = KEYS[9 + budget.place]
    if denied == 'DENIED' and notice(KEYS[7], spend_key, budget, 'denied', entry) then
        keep_until(spend_key, ARGV[16], budget.kind)
        seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
    end
    return answer(denial(denied, budget, end_of(ARGV[16], budget.kind)))
end
if rules.has_traffic then
    --- @include "rate" "traffic"
    refusal, arrivals = traffic(rules, scope, KEYS[4], KEYS[8], now_ms)
end
if refusal then
    return answer(refusal)
end

local ttl_ms = ARGV[6] ~= '0' and ARGV[6] or rules.ttl_ms or ARGV[7]
local deadline_ms = digits(now_ms + ttl_ms)
hold_counters(10, found, scope, amount_text, windows, ARGV[16])
redis.call('HSET', KEYS[4], id, pack_hold(amount_text, ARGV[9], agent, key_id, ARGV[2],
    deadline_ms, ARGV[10], idem, windows))
redis.call('ZADD', KEYS[5], deadline_ms, org .. '|' .. id)
count_call(KEYS[8], scope, arrivals, KEYS[9], idem ~= '' and id .. '|' .. ARGV[10])
if opening then
    --- @include "opening"
    open_windows(KEYS[2], opening, ARGV[12], ARGV[16])
end
if now_ms - stored_ms >= 1000 then
    redis.call('HSET', KEYS[2], 'now', digits(now_ms))
end
seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
return answer(held(deadline_ms, windows, ARGV[16], budget,
    note_crossings(KEYS[7], 10, chain, amount, entry)))
