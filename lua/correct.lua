#!lua flags=allow-oom
--[[
correct -- change the billable spend of one reservation after its end, in all of its windows.

KEYS     [1]    limits    hash    only read, to see whether warn_at was crossed
         [2]    meta      hash    sequence
         [3]    applied   string  whether this correction was applied
         [4]    journal   stream  one correct entry is appended
         [5..]  spend     hash    one per window of the reservation
ARGV     [1]    id                   ULID of the correction
         [2]    reservation_id
         [3]    reserved_ms          the instant in the reservation id
         [4]    org
         [5]    agent
         [6]    amount_microcents    signed
         [7]    windows              packed, those of the reservation
         [8]    epoch
         [9]    detail               JSON text of the journal entry
RETURNS  BADARG argument | DONE | OK
         each followed by seq server_ms
]]
--- @include "clock" "amount" "sign" "cents" "argument" "places" "fields" "place" "settings" "chain"
--- @include "rules" "asked" "budget" "limits" "counters" "spend" "journal" "notice" "overage"
local amount, now_ms = ARGV[6], time_ms()
local function answer(...)
    local reply, seq = {...}, redis.call('HGET', KEYS[2], 'seq')
    reply[#reply + 1], reply[#reply + 2] = tonumber(seq) or 0, now_ms
    return reply
end

local bad = bad_argument({'id', '^%w+$', 'reservation_id', '^%w+$', 'reserved_ms', '^%d+$',
    'org', '^[%w_-]+$', 'agent', '^[%w_-]+$', 'amount_microcents', '^%-?%d+$',
    'windows', '^[%w:,_-]+$', 'epoch', '^%w+$'})
    or (not is_signed_amount(amount) and 'amount_microcents')
if bad then
    return answer('BADARG', bad)
end
if redis.call('EXISTS', KEYS[3]) == 1 then
    return answer('DONE')
end
-- What is no counter fails here, before anything says that the correction was applied.
redis.call('XLEN', KEYS[4])
for at = 5, #KEYS do
    local spent = redis.call('HMGET', KEYS[at], 'org.spent', 'agent.' .. ARGV[5] .. '.spent')
    if not (string.find(spent[1] or '0', '^%-?%d+$') and string.find(spent[2] or '0', '^%-?%d+$'))
    then
        return answer('BADARG', 'spent')
    end
end

redis.call('SET', KEYS[3], amount, 'PX', 604800000)
add(5, #KEYS, 'agent.' .. ARGV[5], '0', amount)
append(KEYS[4], 'correct', ARGV[2], ARGV[1], ARGV[4], ARGV[5], amount, amount, ARGV[3],
    digits(now_ms), ARGV[7], ARGV[8], ARGV[9])
if tonumber(amount) > 0 then
    note_overage(KEYS[1], KEYS[4], 5, {id = ARGV[2], org = ARGV[4], agent = ARGV[5],
        reserved_ms = ARGV[3], at_ms = now_ms, windows = ARGV[7], epoch = ARGV[8]})
end
redis.call('HINCRBY', KEYS[2], 'seq', 1)
return answer('OK')
