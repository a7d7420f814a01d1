-- verdict: what a whole chain and its rules say to a reserve, whose limits are read.
-- Needs ceiling counters broken decide traffic close denial notice retention.
-- Answers a refusal, or nil and the tightest budget, the windows without a key, the arrivals and
-- whether a crossing may have to be noted; last the sequence where a first denial was journaled.
local function verdict(chain, rules, scope, amount_text, proposal, entry)
    local amount, seq = tonumber(amount_text), nil
    local refusal = above_call_ceiling(rules, scope, amount)
    if refusal then
        return refusal
    end
    local missing, near_cap = read_counters(10, #KEYS - 9, scope, chain, amount_text)
    local broken = broken_counter(chain)
    if broken then
        return {'BADARG', broken}
    end
    local denied, budget, may_cross = decide(chain, amount, 0)
    if near_cap or denied then
        denied, budget = denied or 'DENIED', denied and budget or near_cap
        local spend_key = KEYS[9 + budget.place]
        if denied == 'DENIED' and notice(KEYS[7], spend_key, budget, 'denied', entry) then
            keep_until(spend_key, proposal, budget.kind)
            seq = redis.call('HINCRBY', KEYS[2], 'seq', '1')
        end
        refusal = denial(denied, budget, close_of(proposal, budget.kind))
        return refusal, nil, nil, nil, nil, seq
    end
    local arrivals
    if rules.has_traffic then
        refusal, arrivals = traffic(rules, scope, KEYS[4], KEYS[8], entry.at_ms)
    end
    return refusal, budget, missing, arrivals, may_cross
end
