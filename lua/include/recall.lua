-- recall: chain and rules, as read_limits answers them, of remembered limits if there are any.
-- Needs limits places.
local function recall(packed, limits_key, scope, windows, now_ms)
    if not packed then
        return read_limits(limits_key, scope, (places_of(windows)), now_ms)
    end
    local chain, ttl_ms = {nil, nil, nil, nil}, string.match(packed, '%d+$')
    for payer = 1, 2 do
        local place = #KEYS - 9
        for kind, org, own in string.gmatch(packed, '(%l+)|(%d*)|(%d*);') do
            local limit = payer == 1 and org or own
            if limit ~= '' then
                chain[#chain + 1] = {scope = payer == 1 and 'org' or scope, kind = kind,
                    place = place, limit = limit + 0, spent = 0, held = 0, credit = 0,
                    available = 0}
            end
            place = place - 1
        end
    end
    return chain, {ttl_ms = ttl_ms, has_traffic = false}
end
