#!lua flags=no-writes
--[[
authenticate -- say whether a key may be used, before a large body is read or a page is shown.

KEYS     [1]    meta    hash    whether the org is known here
         [2]    keys    hash    key digest to key record
ARGV     [1]    key_digest
         [2]    agent         '' for any
RETURNS  COLD | UNKNOWN_KEY | KEY_EXPIRED | AGENT_NOT_ALLOWED | OK key_id agents
         each followed by seq server_ms
]]
--- @include "clock" "key"
local state = redis.call('HMGET', KEYS[1], 'schema', 'seq', 'now')
local server_ms, stored_ms = time_ms(), tonumber(state[3]) or 0
-- Beyond 15 digits it is no instant, whoever wrote it.
local now_ms = stored_ms < 1e15 and math.max(server_ms, stored_ms) or server_ms
local status, key_id, agents = find_key(KEYS[2], ARGV[1], ARGV[2], now_ms)
local reply = not state[1] and {'COLD'} or {status}
if reply[1] == 'OK' then
    reply = {'OK', key_id, agents}
end
reply[#reply + 1], reply[#reply + 2] = tonumber(state[2]) or 0, now_ms
return reply
