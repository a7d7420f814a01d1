-- ask_fields, field_name: the fields of the limits hash that one call consults.
-- Places: 1 status 2 timezone 3 hold_ttl_ms 4-5 status of the agent and of agent.*, 6-8 the org's
-- per_call_cents concurrency rpm, 9-11 the agent's, 12-14 those of agent.*, then of total, month,
-- week, day and hour the limit of the org, of the agent and of agent.*.
-- Written out, not built: building 29 names took longer than reading them.
local function ask_fields(limits_key, scope)
    return redis.call('HMGET', limits_key, 'status', 'timezone', 'hold_ttl_ms',
        scope .. '.status', 'agent.*.status', 'org.per_call_cents', 'org.concurrency', 'org.rpm',
        scope .. '.per_call_cents', scope .. '.concurrency', scope .. '.rpm',
        'agent.*.per_call_cents', 'agent.*.concurrency', 'agent.*.rpm',
        'org.total.limit_cents', scope .. '.total.limit_cents', 'agent.*.total.limit_cents',
        'org.month.limit_cents', scope .. '.month.limit_cents', 'agent.*.month.limit_cents',
        'org.week.limit_cents', scope .. '.week.limit_cents', 'agent.*.week.limit_cents',
        'org.day.limit_cents', scope .. '.day.limit_cents', 'agent.*.day.limit_cents',
        'org.hour.limit_cents', scope .. '.hour.limit_cents', 'agent.*.hour.limit_cents')
end

local function field_name(at, scope)
    local scopes = {'org', scope, 'agent.*'}
    if at >= 15 then
        local kinds = {'total', 'month', 'week', 'day', 'hour'}
        local kind = kinds[math.floor((at - 15) / 3) + 1]
        return scopes[(at - 15) % 3 + 1] .. '.' .. kind .. '.limit_cents'
    end
    local rules = {'per_call_cents', 'concurrency', 'rpm'}
    local others = {'status', 'timezone', 'hold_ttl_ms', scope .. '.status', 'agent.*.status'}
    return others[at] or scopes[math.floor((at - 6) / 3) + 1] .. '.' .. rules[(at - 6) % 3 + 1]
end
