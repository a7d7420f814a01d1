-- read_settings: the limits hash of an org, read once per call. Needs fields place.
-- A small hash is read whole, which takes a third of asking for 29 names; what else it holds comes
-- second, by name. One with limits of many agents is asked, and its other settings later.
local function read_settings(limits_key, scope)
    if redis.call('HLEN', limits_key) > 32 then
        return ask_fields(limits_key, scope), nil
    end
    local no, own, others = false, scope .. '.', {}
    -- Sized for all places at once: a table that grows is copied at each power of two.
    local fields = {no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no,
        no, no, no, no, no, no, no, no, no}
    local all = redis.call('HGETALL', limits_key)
    for at = 1, #all, 2 do
        local place = place_of(all[at], own)
        local read = place and fields or others
        read[place or all[at]] = all[at + 1]
    end
    return fields, others
end
