-- hold_counters: holds an amount on both scopes of every window, whose keys are the last ones.
-- Needs retention places.
-- found: of read_counters; a window without org.held has no key, so no TTL, yet.
local function hold_counters(first_key, found, scope, amount_text, windows, proposal)
    local scope_held, is_new = scope .. '.held', false
    for place = 1, #KEYS - first_key + 1 do
        local spend_key = KEYS[first_key + place - 1]
        redis.call('HINCRBY', spend_key, 'org.held', amount_text)
        redis.call('HINCRBY', spend_key, scope_held, amount_text)
        is_new = is_new or not found[place]
    end
    for kind, place in pairs(is_new and places_of(windows) or {}) do
        if not found[place] then
            keep_until(KEYS[first_key + place - 1], proposal, kind)
        end
    end
end
