#!lua flags=allow-oom
--[[
settle -- replace a hold by what the call has cost, all of it, also above the hold.

KEYS     [1]    limits    hash    only read, to see whether warn_at was crossed
         [2]    meta      hash    sequence
         [3]    holds     hash    reservation id to packed record
         [4]    expiry    zset    org|id by deadline
         [5]    done      string  how this id ended
         [6]    journal   stream  one settle entry is appended
         [7]    rate      hash    open counts
         [8]    idem      string  what has this idempotency key
         [9..]  spend     hash    one per window of the record
ARGV     [1]    id                 ULID
         [2]    reserved_ms        the instant in the id
         [3]    org
         [4]    agent
         [5]    amount_microcents  the cost, 0 .. 2^53-1
         [6]    windows            packed, as reserve answered them
         [7]    idem_digest        as reserve was given it
         [8]    epoch
         [9]    detail             JSON text of the journal entry
RETURNS  BADARG argument | WINDOWS windows idem_digest | DONE cost over | DONE_OTHER cost over
         | VOIDED cost over | LATE cost over | JOURNALED cost over | SETTLED cost over
         each followed by seq server_ms
WHY      The first write is a delete: before Redis 7, when memory is full, a script may go on
         only if its first write is one that is allowed then. VOIDED counts in all of its windows
         or in none. A release that came before its reserve names windows that may not be open,
         and `counted` is one number for all of them. With 0 the ledger repairs each.
]]
--- @include "clock" "amount" "sign" "settlement" "hold" "spend" "journal" "tombstone"
local id, org, cost, windows, detail = ARGV[1], ARGV[3], ARGV[5], ARGV[6], ARGV[9]
local now_ms = time_ms()

local function answer(status, ...)
    local reply = {status, ...}
    reply[#reply + 1], reply[#reply + 2] = tonumber(redis.call('HGET', KEYS[2], 'seq') or 0), now_ms
    return reply
end

if not is_settlement() then
    --- @include "argument"
    return answer('BADARG', bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$',
        'org', '^[%w_-]+$', 'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$',
        'windows', '^[%w:,_-]+$', 'idem_digest', '^%w*$', 'epoch', '^%w+$'})
        or 'amount_microcents')
end
local record = redis.call('HGET', KEYS[3], id)
local hold = record and read_hold(record)
local ended = not hold and read_end(redis.call('GET', KEYS[5]))
if ended and (ended.state == 'settled' or (ended.state ~= 'expired' and cost == '0')) then
    return answer(ended.actual == cost and 'DONE' or 'DONE_OTHER', ended.actual, '0')
end
local own = hold and hold.windows or (ended and ended.windows ~= '' and ended.windows) or windows
if own ~= windows or (hold and hold.idem ~= ARGV[7]) then
    return answer('WINDOWS', own, hold and hold.idem or ARGV[7])
end

local status, counted, agent, quote, held = 'SETTLED', cost, ARGV[4], '0', '0'
local idem_body = hold and hold.idem ~= '' and hold.body
if hold then
    agent, quote, held = hold.agent, hold.amount, negative(hold.amount)
elseif not ended then
    status, counted = 'JOURNALED', '0'
elseif ended.state == 'expired' then
    status, quote, agent = 'LATE', ended.quote, ended.agent
    counted = digits(tonumber(cost) - tonumber(ended.actual))
    -- Where the expiry gave back, a call of another id may have the idempotency key by now.
    idem_body = ARGV[7] ~= ''
        and string.match(redis.call('GET', KEYS[8]) or '', '^' .. id .. '|(%w*)|')
else
    status, quote, agent = 'VOIDED', ended.quote, ended.agent
    counted = redis.call('EXISTS', unpack(KEYS, 9)) == #KEYS - 8 and cost or '0'
end
-- A journal of another type fails here, before any money has moved.
redis.call('XLEN', KEYS[6])

local scope = 'agent.' .. agent
redis.call('ZREM', KEYS[4], org .. '|' .. id)
if hold then
    redis.call('HDEL', KEYS[3], id)
    redis.call('HINCRBY', KEYS[7], scope .. '.open', -1)
end
if status ~= 'JOURNALED' then
    add(9, #KEYS, scope, held, counted)
end
bury(KEYS[5], 'settled', quote, cost, counted, ARGV[2], now_ms, hold and hold.owner or '', agent,
    '')
if idem_body then
    end_key(KEYS[8], id, idem_body, 'settled', cost)
end
append(KEYS[6], 'settle', id, '', org, agent, cost, counted, ARGV[2], now_ms, windows, ARGV[8],
    detail)
local over = hold and math.max(0, tonumber(cost) - tonumber(hold.amount)) or 0
if over > 0 then
    --- @include "cents" "places" "fields" "place" "settings" "chain" "rules" "asked" "budget"
    --- @include "limits" "counters" "notice" "overage"
    note_overage(KEYS[1], KEYS[6], 9, {id = id, org = org, agent = agent, reserved_ms = ARGV[2],
        at_ms = now_ms, windows = windows, epoch = ARGV[8]})
end
return {status, cost, digits(over), redis.call('HINCRBY', KEYS[2], 'seq', 1), now_ms}
