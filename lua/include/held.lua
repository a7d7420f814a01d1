-- hold_counters, held: what a hold does to its counters, and what it is answered. Needs close.

-- On both scopes of every window, whose keys are the last ones.
local function hold_counters(first_key, scope_held, amount_text)
    local call = redis.call
    for at = first_key, #KEYS do
        local spend_key = KEYS[at]
        call('HINCRBY', spend_key, 'org.held', amount_text)
        call('HINCRBY', spend_key, scope_held, amount_text)
    end
end

-- All its places at once: a table that grows is copied.
local function held(deadline_ms, windows, proposal, tightest, warned, seq, now_ms)
    if not tightest then
        return {'HELD', deadline_ms, windows, '', '0', '0', warned, seq, now_ms}
    end
    return {'HELD', deadline_ms, windows, tightest.scope .. '.' .. tightest.kind,
        string.format('%d', tightest.available), close_of(proposal, tightest.kind), warned, seq,
        now_ms}
end
