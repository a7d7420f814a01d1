-- is_amount, digits: amounts as exact decimal text.

-- tonumber alone would take 'nan', '0x10', ' 5 ' and '1e3'; HINCRBY refuses a leading zero.
-- Above 2^53-1 a Lua number, a double, skips integers.
local function is_amount(text)
    return text == '0' or (#text <= 16 and string.find(text, '^[1-9]%d*$') ~= nil
        and (#text < 16 or tonumber(text) <= 9007199254740991))
end

-- tostring would write 1.2345678901235e+15.
local function digits(number)
    return string.format('%d', number)
end
