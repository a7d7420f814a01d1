-- places_of: window kind to its place among the spend keys, out of packed windows; and their count.
local function places_of(windows)
    local places, count = {}, 0
    for kind in string.gmatch(windows, '(%l+):?[%w-]*') do
        count = count + 1
        places[kind] = count
    end
    return places, count
end
