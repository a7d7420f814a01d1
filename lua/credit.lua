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
         [8..]  window               kind, id, start_ms, end_ms
RETURNS  BADARG argument | DONE | COLD | GONE | OK
         each followed by seq server_ms
WHY      The first credit of a day may come before its first call: then it opens the window, by
         the same rule as reserve. A window that has ended takes no credit.
]]
--- @include "clock" "amount" "argument" "meta" "window" "retention" "journal"
local id, scope, amount = ARGV[1], ARGV[4], ARGV[5]
local windows, packed, valid = read_windows(5, 8)
local window = windows[1]
local meta = read_meta(KEYS[2], windows)
local now_ms = math.max(time_ms(), meta.now_ms)

local function answer(...)
    local reply = {...}
    reply[#reply + 1], reply[#reply + 2] = meta.seq, now_ms
    return reply
end

local bad = bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$', 'org', '^[%w_-]+$',
    'scope', '^[%w_.-]+$', 'amount_microcents', '^%-?%d+$', 'zone', '^[%w/_+-]+$', 'epoch', '^%w+$'})
    or (not valid and 'window') or (not is_signed_amount(amount) and 'amount_microcents')
if bad then
    return answer('BADARG', bad)
end
if redis.call('EXISTS', KEYS[3]) == 1 then
    return answer('DONE')
end
if not meta.schema then
    return answer('COLD')
end
local zone = redis.call('HGET', KEYS[1], 'timezone') or 'UTC'
if not windows_fit(windows, now_ms, ARGV[6] == zone) then
    return answer('GONE')
end

local agent = string.match(scope, '^agent%.(.+)$') or ''
redis.call('SET', KEYS[3], amount, 'PX', 604800000)
write_meta(KEYS[2], meta, windows, ARGV[6], now_ms)
redis.call('HINCRBY', window.key, scope .. '.credit', amount)
keep_until(window)
append(KEYS[4], {kind = 'credit', id = id, entry_id = id, org = ARGV[3], agent = agent,
    amount = amount, counted = amount, reserved_ms = ARGV[2], at_ms = now_ms, windows = packed,
    epoch = ARGV[7], detail = '{"scope":"' .. scope .. '"}'})
return answer('OK')
