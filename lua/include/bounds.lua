-- bounds_of: those windows of a record that are the running ones, packed as reserve proposes them.
local function bounds_of(meta_key, windows)
    local bounds = {}
    for kind, id in string.gmatch(windows, '(%l+):([%w-]+)') do
        local stored =
            redis.call('HMGET', meta_key, kind .. '.id', kind .. '.start', kind .. '.end')
        if stored[1] == id then
            bounds[#bounds + 1] = kind .. '|' .. id .. '|' .. stored[2] .. '|' .. stored[3]
        end
    end
    return table.concat(bounds, ',')
end
