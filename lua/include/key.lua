-- key_status, find_key: whether a key may be used now, and for an agent ('' for any).
local function key_status(record, agent, now_ms)
    local key_id, status, expires_ms, agents =
        string.match(record or '', '^(%w+)|(%a+)|(%d*)|([%w_,*-]*)$')
    if status ~= 'active' then
        return 'UNKNOWN_KEY', '', ''
    end
    if expires_ms ~= '' and expires_ms ~= '0' and tonumber(expires_ms) <= now_ms then
        return 'KEY_EXPIRED', key_id, agents
    end
    if agent ~= '' and agents ~= '*'
        and not string.find(',' .. agents .. ',', ',' .. agent .. ',', 1, true) then
        return 'AGENT_NOT_ALLOWED', key_id, agents
    end
    return 'OK', key_id, agents
end

-- No digest means that the network is trusted.
local function find_key(keys_key, digest, agent, now_ms)
    if digest == '' then
        return 'OK', '', '*'
    end
    return key_status(redis.call('HGET', keys_key, digest), agent, now_ms)
end
