-- add: what the end of a reservation does to the counters of one window.

-- Adds to the counters of both scopes and answers whether the window still counts. A key that
-- left by its TTL must not come back without one: money of a window so old is the ledger's.
local function add(spend_key, agent_scope, held, spent)
    if held ~= '0' then
        if redis.call('HINCRBY', spend_key, 'org.held', held) < 0
            and redis.call('HLEN', spend_key) == 1 then
            redis.call('DEL', spend_key)
            return false
        end
        redis.call('HINCRBY', spend_key, agent_scope .. '.held', held)
    elseif redis.call('EXISTS', spend_key) == 0 then
        return false
    end
    if spent ~= '0' then
        redis.call('HINCRBY', spend_key, 'org.spent', spent)
        redis.call('HINCRBY', spend_key, agent_scope .. '.spent', spent)
    end
    return true
end
