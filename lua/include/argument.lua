-- bad_argument, read_windows: the arguments of a script, checked before anything is read.

-- forms: name and pattern of each argument in the order of ARGV. Answers the name of a bad one.
local function bad_argument(forms)
    for at = 1, #forms, 2 do
        if not string.find(ARGV[(at + 1) / 2], forms[at + 1]) then
            return forms[at]
        end
    end
    return nil
end

-- The windows proposed: kind, id, start_ms, end_ms of each from ARGV[argument], their counters
-- from KEYS[key]. Answers the list, its packed form, and whether every number is one.
local function read_windows(key, argument)
    local windows, packed, valid = {}, {}, true
    for at = argument, #ARGV, 4 do
        local kind, id, start_ms, end_ms = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
        valid = valid and string.find(start_ms, '^%d+$') and string.find(end_ms, '^%d+$')
        windows[#windows + 1] = {kind = kind, id = id, key = KEYS[key + #windows],
            start_ms = tonumber(start_ms), end_ms = tonumber(end_ms)}
        packed[#packed + 1] = kind == 'total' and 'total' or kind .. ':' .. id
    end
    assert(#windows > 0 and KEYS[key + #windows] == nil, 'one spend key for each window')
    return windows, table.concat(packed, ','), valid
end
