-- is_settlement: whether the arguments of settle are well formed. Needs amount.
-- Looked at together, because one search costs as much as one argument does.
local function is_settlement()
    local words = ARGV[1] .. ARGV[3] .. ARGV[4] .. ARGV[7] .. ARGV[8] .. ARGV[2]
    return is_amount(ARGV[5]) and string.find(words, '^[%w_-]+$')
        and string.find(ARGV[6], '^[%w:,_-]+$') and string.find(ARGV[2], '^%d+$')
        and ARGV[1] ~= '' and ARGV[3] ~= '' and ARGV[4] ~= '' and ARGV[8] ~= ''
end
