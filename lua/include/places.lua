-- kinds_from, places_of: window kind to its place among the spend keys.

-- Out of the arguments from a place on.
local function kinds_from(first)
    local places = {}
    for at = first, #ARGV do
        places[ARGV[at]] = at - first + 1
    end
    return places
end

-- Out of packed windows; and their count.
local function places_of(windows)
    local places, count = {}, 0
    for kind in string.gmatch(windows, '(%l+):?[%w-]*') do
        count = count + 1
        places[kind] = count
    end
    return places, count
end
