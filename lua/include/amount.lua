-- is_amount, digits: amounts as exact decimal text.
-- 2^53-1: above it a Lua number, a double, skips integers.
local AMOUNT_MAX = 9007199254740991

-- tonumber alone would take 'nan', '0x10', ' 5 ' and '1e3'; HINCRBY refuses a leading zero.
local function is_amount(text)
    if text == '0' then
        return true
    end
    return #text <= 16 and string.find(text, '^[1-9]%d*$') ~= nil and tonumber(text) <= AMOUNT_MAX
end

-- tostring would write 1.2345678901235e+15.
local function digits(number)
    return string.format('%d', number)
end
