-- add: what the end of a reservation does to the counters of its windows.
-- A key that left by its TTL must not come back without one: money of a window so old is the
-- ledger's. It is seen by a held that falls below zero in a hash of one field.
local function add(first_key, last_key, agent_scope, held, spent)
    local call, agent_held, agent_spent = redis.call, agent_scope .. '.held',
        agent_scope .. '.spent'
    for at = first_key, last_key do
        local spend_key, is_kept = KEYS[at], true
        if held == '0' then
            is_kept = call('EXISTS', spend_key) == 1
        elseif call('HINCRBY', spend_key, 'org.held', held) < 0
            and call('HLEN', spend_key) == 1 then
            call('DEL', spend_key)
            is_kept = false
        else
            call('HINCRBY', spend_key, agent_held, held)
        end
        if is_kept and spent ~= '0' then
            call('HINCRBY', spend_key, 'org.spent', spent)
            call('HINCRBY', spend_key, agent_spent, spent)
        end
    end
end
