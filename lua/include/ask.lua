-- is_ask: whether the arguments of reserve, but for the amount, are well formed.
-- Looked at together, because one search costs as much as one argument does.
local function is_ask(id, reserved_ms, org, agent, ttl_ms, default_ttl_ms, owner, body, idem,
    entries_max)
    return string.find(id .. org .. agent .. owner .. body .. idem, '^[%w_-]+$')
        and string.find(reserved_ms .. ttl_ms .. default_ttl_ms .. entries_max, '^%d+$')
        and id ~= '' and org ~= '' and agent ~= '' and owner ~= '' and reserved_ms ~= ''
        and ttl_ms ~= '' and default_ttl_ms ~= '' and entries_max ~= ''
end
