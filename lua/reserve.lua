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
RETURNS  BADARG argument | CLOCK | COLD | UNKNOWN_KEY | KEY_EXPIRED | AGENT_NOT_ALLOWED
         | DONE state quote cost reserved_ms end_ms owner agent | HELD (again) | MISMATCH
         | IDEMPOTENT id body_digest state cost | LIMITS_INVALID field | FROZEN scope
         | WINDOW zone (kind id start_ms end_ms).. | JOURNAL_FULL | PER_CALL scope limit
         | DENIED or BUSY budget limit credit spent held end_ms | CONCURRENCY scope limit
         | RATE scope retry_ms | HELD deadline_ms windows budget available end_ms warnings
         each followed by seq server_ms
]]
--- @include "clock" "amount" "ask" "key" "answer" "memory" "room" "close" "held" "pack"
local id, reserved_ms, org, agent, amount_text, asked_ttl_ms, default_ttl_ms, key_digest, owner,
    body, idem, zone, entries_max, epoch, windows, proposal = unpack(ARGV)
local call, scope, amount = redis.call, 'agent.' .. agent, tonumber(amount_text)
local meta = call('HMGET', KEYS[2], 'schema', 'now', 'billing_status', 'running', 'until',
    'limits', 'chain', 'epoch')
local server_ms, stored_ms, packed = time_ms(), tonumber(meta[2]) or 0, meta[7]
local now_ms = stored_ms > server_ms and stored_ms or server_ms
local refusal, opening, arrivals, seq, chain, rules, limits, entry, may_cross, has_room, budget
if not (is_amount(amount_text) and is_ask(id, reserved_ms, org, agent, asked_ttl_ms, default_ttl_ms,
    owner, body, idem, zone, entries_max, epoch)) then
    --- @include "argument" "bad_ask"
    return answer({'BADARG', bad_ask()}, KEYS[2], nil, server_ms)
end
local is_skewed = stored_ms - server_ms > 300000 or math.abs(reserved_ms - server_ms) > 300000
local key_found, key_id = find_key(KEYS[3], key_digest, agent, now_ms)
local is_cold = not meta[1] or (meta[8] or epoch) ~= epoch
if is_skewed or is_cold or key_found ~= 'OK' then
    key_found = (is_skewed and 'CLOCK') or (is_cold and 'COLD') or key_found
    return answer({key_found}, KEYS[2], nil, server_ms)
end
local ended, open, missing, ttl_ms = call('GET', KEYS[6]), call('HGET', KEYS[4], id)
if ended or open or idem ~= '' then
    --- @include "hold" "known"
    refusal = known_reservation(ended, open, agent, amount_text, body) or known_key(KEYS[9], idem)
end
local is_running = meta[4] == proposal and now_ms < (tonumber(meta[5]) or 0)
local is_known = is_running and packed and limits_text(KEYS[1], windows, packed) == meta[6]
if is_known then
    has_room, budget, missing, ttl_ms = room(packed, scope, amount)
end
if not has_room then
    --- @include "cents" "places" "fields" "place" "settings" "chain" "rules" "asked" "budget"
    --- @include "limits" "recall"
    chain, rules, limits = recall(is_known and packed, KEYS[1], scope, windows, now_ms)
    refusal = refusal or (not chain and {'LIMITS_INVALID', rules})
        or (rules.frozen and {'FROZEN', rules.frozen})
end
refusal = refusal or (meta[3] and meta[3] ~= 'ok' and {'FROZEN', 'billing'})
if not refusal and not is_running then
    --- @include "window" "running"
    refusal, opening = opening_windows(KEYS[2], meta[4], proposal, zone, rules.timezone, now_ms)
end
refusal = refusal or (call('XLEN', KEYS[7]) >= entries_max + 0 and {'JOURNAL_FULL'})
if chain and not refusal then
    --- @include "ceiling" "counters" "broken" "decide" "rate" "traffic" "journal" "notice"
    --- @include "places" "retention" "denial" "verdict"
    entry = {id = id, org = org, agent = agent, reserved_ms = reserved_ms, at_ms = now_ms,
        windows = windows, epoch = epoch}
    refusal, budget, missing, arrivals, may_cross, seq =
        verdict(chain, rules, scope, amount_text, proposal, entry)
end
if refusal then
    return answer(refusal, KEYS[2], seq, now_ms)
end
ttl_ms = (asked_ttl_ms ~= '0' and asked_ttl_ms) or (chain and rules.ttl_ms) or ttl_ms
local deadline_ms, warned = digits(now_ms + (ttl_ms or default_ttl_ms)), ''
-- What was not read so far and is of another type fails here, before any money has moved.
call('ZADD', KEYS[5], deadline_ms, org .. '|' .. id)
seq = call('HINCRBY', KEYS[2], 'seq', '1')
call('HINCRBY', KEYS[8], scope .. '.open', '1')
hold_counters(10, scope .. '.held', amount_text)
call('HSET', KEYS[4], id, pack_hold(amount_text, owner, agent, key_id, reserved_ms,
    deadline_ms, body, idem, windows))
if missing or opening or arrivals or idem ~= '' then
    --- @include "places" "retention" "count"
    keep_missing(10, missing or {}, windows, proposal, opening)
    count_call(KEYS[8], arrivals, KEYS[9], idem ~= '' and id .. '|' .. body)
end
if not is_known then
    --- @include "opening" "plain" "remember"
    open_windows(KEYS[2], opening, zone, proposal)
    remember(KEYS[1], KEYS[2], meta, limits, chain, rules, windows)
end
if now_ms - stored_ms >= 1000 then
    call('HSET', KEYS[2], 'now', digits(now_ms))
end
if may_cross then
    --- @include "journal" "notice" "crossing"
    warned = note_crossings(KEYS[7], 10, chain, amount, entry)
end
return held(deadline_ms, windows, proposal, budget, warned, seq, now_ms)
