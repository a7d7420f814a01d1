-- read_counters, hold: the spend counters of an org and an agent. Needs retention.
local function read_counters(windows, agent_scope)
    for _, window in ipairs(windows) do
        local values = redis.call('HMGET', window.key, 'org.spent', 'org.held', 'org.credit',
            agent_scope .. '.spent', agent_scope .. '.held', agent_scope .. '.credit')
        window.is_new = not values[2]
        for at = 1, 6 do
            values[at] = tonumber(values[at] or 0)
        end
        window.org = {spent = values[1], held = values[2], credit = values[3]}
        window.agent = {spent = values[4], held = values[5], credit = values[6]}
    end
end

local function hold(windows, agent_scope, amount)
    for _, window in ipairs(windows) do
        redis.call('HINCRBY', window.key, 'org.held', amount)
        redis.call('HINCRBY', window.key, agent_scope .. '.held', amount)
        if window.is_new then
            keep_until(window)
        end
    end
end
