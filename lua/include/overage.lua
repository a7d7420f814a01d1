-- note_overage: warnings where spent grew without a reserve. Needs limits counters notice places.
-- Limits that are not valid warn of nothing here: the next reserve refuses and names the field.
local function note_overage(limits_key, journal_key, first_key, entry)
    local scope, places, count = 'agent.' .. entry.agent, places_of(entry.windows)
    -- The money has moved by now: limits that are no hash must not fail the call.
    if redis.call('TYPE', limits_key).ok ~= 'hash' then
        return
    end
    local chain = read_limits(limits_key, scope, places, entry.at_ms) or {}
    read_counters(first_key, count, scope, chain, '0')
    for _, budget in ipairs(chain) do
        local spend_key = KEYS[first_key + budget.place - 1]
        if is_past_warning(budget, budget.spent + budget.held)
            and redis.call('EXISTS', spend_key) == 1 then
            notice(journal_key, spend_key, budget, 'warned', entry)
        end
    end
end
