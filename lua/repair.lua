#!lua flags=allow-oom
--[[
repair -- make counters equal what is booked and held: by a difference, without a journal entry.

KEYS     [1]    meta      hash    sequence
         [2]    applied   string  whether this repair was applied
         [3..]  spend     hash    the windows that differ; or rate, for an agent's open holds
ARGV     [1]    id         ULID
         [2]    windows    packed kind:id,... in the order of KEYS; rate stands for the rate key
         [3..]  changes    of each: place of its key in KEYS, field, signed number
RETURNS  BADARG argument | DONE | OK
         each followed by seq server_ms
WHY      A window whose counters left by their TTL stays gone: nothing reads it any more. One that
         runs and has lost its counters gets them back: what it had spent would be spent twice.
]]
--- @include "clock" "amount" "sign" "close" "places" "retention" "bounds"
local windows, bounds = {}, {}
local function answer(...)
    local reply, seq = {...}, redis.call('HGET', KEYS[1], 'seq')
    reply[#reply + 1], reply[#reply + 2] = tonumber(seq) or 0, time_ms()
    return reply
end

for window in string.gmatch(ARGV[2] or '', '[^,]+') do
    windows[#windows + 1] = string.find(window, '^%l+:?[%w-]*$') and window
end
if #windows ~= #KEYS - 2 then
    return answer('BADARG', 'windows')
end
local is_known = redis.call('HEXISTS', KEYS[1], 'schema') == 1
for at = 3, #ARGV, 3 do
    local place, field, amount = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    local spend_key, window = place and place >= 3 and KEYS[place], windows[(place or 0) - 2]
    local counter = string.match(field or '', '^[%w_.-]+%.(%l+)$')
    local is_counter = (window == 'rate' and counter == 'open')
        or (window ~= 'rate' and (counter == 'spent' or counter == 'held'))
    if not spend_key or not is_counter or not amount or not is_signed_amount(amount) then
        return answer('BADARG', 'changes')
    end
    -- What is no counter fails here, before anything says that the repair was applied.
    if not string.find(redis.call('HGET', spend_key, field) or '0', '^%-?%d+$') then
        return answer('BADARG', field)
    end
    if is_known and redis.call('EXISTS', spend_key) == 0 then
        local is_permanent = window == 'total' or window == 'rate'
        bounds[place] = is_permanent and window or bounds_of(KEYS[1], window)
    end
end
if redis.call('EXISTS', KEYS[2]) == 1 then
    return answer('DONE')
end

redis.call('SET', KEYS[2], '1', 'PX', 604800000)
for at = 3, #ARGV, 3 do
    local place = tonumber(ARGV[at])
    if redis.call('EXISTS', KEYS[place]) == 1 or (bounds[place] or '') ~= '' then
        redis.call('HINCRBY', KEYS[place], ARGV[at + 1], ARGV[at + 2])
    end
end
for place, proposal in pairs(bounds) do
    if proposal ~= '' and proposal ~= 'rate' then
        keep_until(KEYS[place], proposal, string.match(windows[place - 2], '^%l+'))
    end
end
redis.call('HINCRBY', KEYS[1], 'seq', 1)
return answer('OK')
