-- is_ask: whether the arguments of reserve, but for the amount, are well formed.
-- Looked at together, because one search costs as much as one argument does.
local function is_ask(id, reserved_ms, org, agent, ttl_ms, default_ttl_ms, owner, body, idem, zone,
    entries_max, epoch)
    return #ttl_ms < 16 and #default_ttl_ms < 16 and string.find(id .. '|' .. reserved_ms .. '|'
        .. org .. '|' .. agent .. '|' .. ttl_ms .. '|' .. default_ttl_ms .. '|' .. owner .. '|'
        .. body .. '|' .. idem .. '|' .. zone .. '|' .. entries_max .. '|' .. epoch,
        '^%w+|%d+|[%w_-]+|[%w_-]+|%d+|%d+|%a+|%w*|%w*|[%w/_+-]+|%d+|%w+$')
end
