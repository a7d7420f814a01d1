#!lua flags=no-writes
--[[
inspect -- look at counters and at the last journal id at one instant.

KEYS     [1]    meta      hash    sequence
         [2]    journal   stream  its last id
         [3..]  spend     hash    the windows to look at; holds and rate where they are asked for
RETURNS  OK journal_id (count (field value)..).. with one group per hash
         each followed by seq server_ms
]]
--- @include "clock"
local reply = {'OK', '0-0'}
if redis.call('EXISTS', KEYS[2]) == 1 then
    local stream = redis.call('XINFO', 'STREAM', KEYS[2])
    for at = 1, #stream, 2 do
        if stream[at] == 'last-generated-id' then
            reply[2] = stream[at + 1]
        end
    end
end
for place = 3, #KEYS do
    local fields = redis.call('HGETALL', KEYS[place])
    reply[#reply + 1] = #fields / 2
    for _, text in ipairs(fields) do
        reply[#reply + 1] = text
    end
end
reply[#reply + 1] = tonumber(redis.call('HGET', KEYS[1], 'seq')) or 0
reply[#reply + 1] = time_ms()
return reply
