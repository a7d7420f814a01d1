-- is_signed_amount, negative: amounts that may be below zero. Needs amount.
local function is_signed_amount(text)
    return is_amount(text) or (text ~= '-0' and is_amount((string.gsub(text, '^%-', ''))))
end

-- HINCRBY refuses '-0'.
local function negative(text)
    return text == '0' and text or '-' .. text
end
