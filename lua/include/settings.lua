-- read_settings: the limits hash of an org, read once per call. Needs fields place.
-- A small hash is read whole, which takes a third of asking for 29 names; what else it holds comes
-- second, by name, and third all of its texts. One with limits of many agents is asked, and its
-- other settings later. Scanned, not fetched: in the order in which recall will see it.
local function read_settings(limits_key, scope)
    local scanned = redis.call('HLEN', limits_key) <= 32
        and redis.call('HSCAN', limits_key, '0', 'COUNT', '64')
    if not scanned or scanned[1] ~= '0' then
        return ask_fields(limits_key, scope), nil, nil
    end
    local no, own, others, all = false, scope .. '.', {}, scanned[2]
    -- Sized for all places at once: a table that grows is copied at each power of two.
    local fields = {no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no,
        no, no, no, no, no, no, no, no, no}
    for at = 1, #all, 2 do
        local place = place_of(all[at], own)
        local read = place and fields or others
        read[place or all[at]] = all[at + 1]
    end
    return fields, others, all
end
