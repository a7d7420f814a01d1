-- remember: keeps plain limits for the next call. Needs memory plain.
-- texts: the whole hash, or nil where it was too large; what is not plain leaves no memory behind.
-- chain: of each window, the last one first, kind|org|agent; in microcents. Then hold_ttl_ms.
local function remember(limits_key, meta_key, meta, texts, chain, rules, windows)
    local orgs, owns, text, packed = {}, {}, nil, rules.ttl_ms or ''
    for _, budget in ipairs(chain) do
        local limits = budget.scope == 'org' and orgs or owns
        limits[budget.kind] = string.format('%d', budget.limit)
    end
    for kind in string.gmatch(windows, '(%l+):?[%w-]*') do
        packed = kind .. '|' .. (orgs[kind] or '') .. '|' .. (owns[kind] or '') .. ';' .. packed
    end
    if texts and is_plain(texts, windows) then
        text = limits_text(limits_key, windows, packed)
    end
    if text and #text <= 1024 then
        if text ~= meta[6] or packed ~= meta[7] then
            redis.call('HSET', meta_key, 'limits', text, 'chain', packed)
        end
    elseif meta[6] or meta[7] then
        redis.call('HDEL', meta_key, 'limits', 'chain')
    end
end
