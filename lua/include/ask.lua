-- is_ask: whether the arguments of reserve are well formed. Needs amount.
-- Looked at together, because one search costs as much as one argument does.
local function is_ask()
    local words = ARGV[1] .. ARGV[3] .. ARGV[4] .. ARGV[9] .. ARGV[10] .. ARGV[11]
    local numbers = ARGV[2] .. ARGV[6] .. ARGV[7] .. ARGV[13]
    return is_amount(ARGV[5]) and string.find(words, '^[%w_-]+$') and string.find(numbers, '^%d+$')
        and ARGV[1] ~= '' and ARGV[2] ~= '' and ARGV[3] ~= '' and ARGV[4] ~= '' and ARGV[6] ~= ''
        and ARGV[7] ~= '' and ARGV[9] ~= '' and ARGV[13] ~= ''
end
