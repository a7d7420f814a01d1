-- bad_argument: the name of the first argument that is not formed as its pattern says, or nil.
-- forms: name and pattern of each argument in the order of ARGV.
local function bad_argument(forms)
    for at = 1, #forms, 2 do
        if not string.find(ARGV[(at + 1) / 2], forms[at + 1]) then
            return forms[at]
        end
    end
    return nil
end
