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
         only if its first write is one that is allowed then.
]]
--- @include "clock" "amount" "cents" "argument" "hold" "chain" "rules" "budget" "limits"
--- @include "retention" "counters" "spend" "journal" "notice" "overage" "tombstone"
local id, org, cost, scope = ARGV[1], ARGV[3], ARGV[5], 'agent.' .. ARGV[4]
local now_ms = time_ms()
local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$', 'windows', '^[%w:,_-]+$',
    'idem_digest', '^%w*$', 'epoch', '^%w+$'}) or (not is_amount(cost) and 'amount_microcents')
local windows = packed_windows(ARGV[6], 9)
local hold = read_hold(redis.call('HGET', KEYS[3], id))
local ended = not hold and read_end(redis.call('GET', KEYS[5]))
local known = hold or ended or {windows = '', amount = '0'}

local function answer(...)
    local reply, seq = {...}, redis.call('HGET', KEYS[2], 'seq')
    reply[#reply + 1], reply[#reply + 2] = tonumber(seq or 0), now_ms
    return reply
end

if bad then
    return answer('BADARG', bad)
end
if ended and (ended.state == 'settled' or (ended.state ~= 'expired' and cost == '0')) then
    return answer(ended.actual == cost and 'DONE' or 'DONE_OTHER', ended.actual, '0')
end
if (known.windows ~= '' and known.windows ~= ARGV[6]) or (hold and hold.idem ~= ARGV[7]) then
    return answer('WINDOWS', known.windows, hold and hold.idem or ARGV[7])
end

local status, counted = 'JOURNALED', '0'
if hold then
    status, counted, scope = 'SETTLED', cost, 'agent.' .. hold.agent
elseif ended and ended.state == 'expired' then
    status, counted = 'LATE', digits(tonumber(cost) - tonumber(ended.actual))
elseif ended then
    status, counted = 'VOIDED', cost
end
redis.call('ZREM', KEYS[4], org .. '|' .. id)
if hold then
    redis.call('HDEL', KEYS[3], id)
    redis.call('HINCRBY', KEYS[7], scope .. '.open', -1)
end
for _, window in ipairs(windows) do
    if status ~= 'JOURNALED' then
        add(window.key, scope, hold and negative(hold.amount) or '0', counted)
    end
end
local quote = hold and hold.amount or (ended and ended.quote) or '0'
bury(KEYS[5], 'settled', quote, cost, counted, {reserved_ms = ARGV[2], end_ms = now_ms,
    owner = known.owner, agent = ARGV[4]})
if hold and hold.idem ~= '' then
    end_key(KEYS[8], id, hold.body, 'settled', cost)
end
local entry = {kind = 'settle', id = id, org = org, agent = ARGV[4], amount = cost,
    counted = counted, reserved_ms = ARGV[2], at_ms = now_ms, windows = ARGV[6], epoch = ARGV[8],
    detail = ARGV[9]}
append(KEYS[6], entry)
local over = hold and math.max(0, tonumber(cost) - tonumber(hold.amount)) or 0
if over > 0 then
    note_overage(KEYS[1], KEYS[6], windows, entry)
end
redis.call('HINCRBY', KEYS[2], 'seq', 1)
return answer(status, cost, digits(over))
