-- remember: keeps plain limits for the next call. Needs memory plain.
-- texts: the whole hash, or nil where it was too large; what is not plain leaves no memory behind.
-- chain: hold_ttl_ms/ and of each window, the last one first, org|agent; in microcents.
local function remember(limits_key, meta_key, meta, texts, chain, rules)
    local orgs, owns, text, packed = {}, {}, nil, (rules.ttl_ms or '') .. '/'
    for _, budget in ipairs(chain) do
        local limits = budget.scope == 'org' and orgs or owns
        limits[budget.place] = string.format('%d', budget.limit)
    end
    for place = #ARGV - 16, 1, -1 do
        packed = packed .. (orgs[place] or '') .. '|' .. (owns[place] or '') .. ';'
    end
    if texts and is_plain(texts) then
        text = limits_text(limits_key, packed)
    end
    if text and #text <= 1024 then
        if text ~= meta[6] or packed ~= meta[7] then
            redis.call('HSET', meta_key, 'limits', text, 'chain', packed)
        end
    elseif meta[6] or meta[7] then
        redis.call('HDEL', meta_key, 'limits', 'chain')
    end
end
