#!lua flags=allow-oom
--[[
credit -- raise or, negative, lower what one budget may spend in one window; spent stays.

KEYS     [1]    limits    hash    only its timezone is read
         [2]    meta      hash    sequence, clock, running windows
         [3]    applied   string  whether this credit was applied
         [4]    journal   stream  one credit entry is appended
         [5]    spend     hash    of the window
ARGV     [1]    id                   ULID
         [2]    reserved_ms          the instant in the id
         [3]    org
         [4]    scope                org, or agent.<id>
         [5]    amount_microcents    signed
         [6]    zone                 of the window proposed
         [7]    epoch
         [8]    window               packed kind:id, or total
         [9]    proposal             kind|id|start_ms|end_ms, empty for total
RETURNS  BADARG argument | DONE | COLD | GONE | OK
         each followed by seq server_ms
WHY      The first credit of a day may come before its first call: then it opens the window, by
         the same rule as reserve. A window that has ended takes no credit.
]]
--- @include "clock" "amount" "sign" "argument" "window" "opening" "places" "close" "retention"
--- @include "journal"
local id, org, scope, amount, packed = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[8]
local meta = redis.call('HMGET', KEYS[2], 'schema', 'seq', 'now')
local server_ms, stored_ms = time_ms(), tonumber(meta[3]) or 0
-- Beyond 15 digits it is no instant, whoever wrote it.
local now_ms = stored_ms < 1e15 and math.max(server_ms, stored_ms) or server_ms
local function answer(...)
    local reply = {...}
    reply[#reply + 1], reply[#reply + 2] = tonumber(meta[2]) or 0, now_ms
    return reply
end

local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'scope', '^.+$', 'amount_microcents', '^%-?%d+$', 'zone', '^[%w/_+-]+$',
    'epoch', '^%w+$', 'window', '^[%w:-]+$', 'proposal', '^[%w|-]*$'})
    or (scope ~= 'org' and not string.find(scope, '^agent%.[%w_-]+$') and 'scope')
    or (not is_signed_amount(amount) and 'amount_microcents')
if bad then
    return answer('BADARG', bad)
end
if redis.call('EXISTS', KEYS[3]) == 1 then
    return answer('DONE')
end
if not meta[1] then
    return answer('COLD')
end
local windows = read_windows(KEYS[2], ARGV[9])
local zone = redis.call('HGET', KEYS[1], 'timezone') or 'UTC'
local is_total = packed == 'total'
if not is_total and (#windows == 0 or not windows_fit(windows, now_ms, ARGV[6] == zone)) then
    return answer('GONE')
end
-- A key of another type fails here, before anything says that the credit was applied.
redis.call('XLEN', KEYS[4])
local credited = redis.call('HGET', KEYS[5], scope .. '.credit') or 0
if math.abs(credited + amount) > 9007199254740991 then
    return answer('BADARG', 'amount_microcents')
end

redis.call('SET', KEYS[3], amount, 'PX', 604800000)
-- One window opens alone here; without `running` the next reserve looks at each bound again.
open_windows(KEYS[2], windows, ARGV[6], '')
redis.call('HINCRBY', KEYS[5], scope .. '.credit', amount)
keep_until(KEYS[5], ARGV[9], is_total and 'total' or windows[1].kind)
append(KEYS[4], 'credit', id, id, org, string.match(scope, '^agent%.(.+)$') or '', amount, amount,
    ARGV[2], digits(now_ms), packed, ARGV[7], '{"scope":"' .. scope .. '"}')
meta[2] = redis.call('HINCRBY', KEYS[2], 'seq', 1)
return answer('OK')
