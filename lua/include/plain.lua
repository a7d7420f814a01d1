-- is_plain: whether limits read the same for every agent and at every instant.
-- No setting of an agent by name and none that ends; the rarer ones are left out, because room and
-- recall would have to know them. They know the windows only in the order in which they are asked.
local function is_plain(texts, windows)
    for at = 1, #texts, 2 do
        local name = texts[at]
        local is_known = name == 'status' or name == 'timezone' or name == 'on_expiry'
            or name == 'hold_ttl_ms' or name == 'agent.*.status'
            or string.find(name, '^org%.%l+%.limit_cents$')
            or string.find(name, '^agent%.%*%.%l+%.limit_cents$')
        -- Printable, so that whoever shows meta can, and no value has the separator inside.
        if not is_known or string.find(texts[at + 1], '[^ -~]') then
            return false
        end
    end
    local last, order = 0, {hour = 1, day = 2, week = 3, month = 4, total = 5}
    for kind in string.gmatch(windows, '(%l+):?[%w-]*') do
        local rank = order[kind] or 0
        if rank <= last then
            return false
        end
        last = rank
    end
    return true
end
