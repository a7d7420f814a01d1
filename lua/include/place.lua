-- place_of: the place of a field of the limits as ask_fields numbers them, nil for any other.
-- Compared one by one: that costs less than taking the name apart.
local function place_of(name, own)
    local place = (name == 'status' and 1) or (name == 'timezone' and 2)
        or (name == 'org.month.limit_cents' and 18) or (name == 'org.day.limit_cents' and 24)
        or (name == 'agent.*.day.limit_cents' and 26)
        or (name == 'agent.*.month.limit_cents' and 20)
        or (name == 'org.total.limit_cents' and 15) or (name == 'agent.*.total.limit_cents' and 17)
        or (name == 'org.week.limit_cents' and 21) or (name == 'agent.*.week.limit_cents' and 23)
        or (name == 'org.hour.limit_cents' and 27) or (name == 'agent.*.hour.limit_cents' and 29)
        or (name == 'hold_ttl_ms' and 3) or (name == 'agent.*.status' and 5)
        or (name == 'org.per_call_cents' and 6) or (name == 'agent.*.per_call_cents' and 12)
        or (name == 'org.concurrency' and 7) or (name == 'agent.*.concurrency' and 13)
        or (name == 'org.rpm' and 8) or (name == 'agent.*.rpm' and 14)
    if place or string.sub(name, 1, #own) ~= own then
        return place
    end
    local setting = string.sub(name, #own + 1)
    return (setting == 'day.limit_cents' and 25) or (setting == 'month.limit_cents' and 19)
        or (setting == 'total.limit_cents' and 16) or (setting == 'week.limit_cents' and 22)
        or (setting == 'hour.limit_cents' and 28) or (setting == 'status' and 4)
        or (setting == 'per_call_cents' and 9) or (setting == 'concurrency' and 10)
        or (setting == 'rpm' and 11)
end
