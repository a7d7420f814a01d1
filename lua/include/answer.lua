-- answer: a reply with the sequence and the time behind it; without a seq that is read.
local function answer(reply, meta_key, seq, now_ms)
    local count = #reply
    reply[count + 1] = seq or tonumber(redis.call('HGET', meta_key, 'seq')) or 0
    reply[count + 2] = now_ms
    return reply
end
