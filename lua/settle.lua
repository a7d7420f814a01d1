#!lua flags=allow-oom
--[[
settle -- replace a hold by what the call has cost, all of it, also above the hold.

KEYS     [1]    limits    hash    only read, to see whether warn_at was crossed
         [2]    meta      hash    sequence
         [3]    holds     hash    reservation id to packed record
         [4]    expiry    zset    org|id by deadline
         [5]    done      string  how this id ended
         [6]    journal   stream  one settle entry is appended
         [7]    rate      hash    open counts
         [8]    idem      string  what has this idempotency key
         [9..]  spend     hash    one per window of the record
ARGV     [1]    id                 ULID
         [2]    reserved_ms        the instant in the id
         [3]    org
         [4]    agent
         [5]    amount_microcents  the cost, 0 .. 2^53-1
         [6]    windows            packed, as reserve answered them
         [7]    idem_digest        as reserve was given it
         [8]    epoch
         [9]    detail             JSON text of the journal entry
RETURNS  BADARG argument | WINDOWS windows idem_digest | DONE cost over | DONE_OTHER cost over
         | VOIDED cost over | LATE cost over | JOURNALED cost over | SETTLED cost over
         each followed by seq server_ms
WHY      The first write is a delete: before Redis 7, when memory is full, a script may go on
         only if its first write is one that is allowed then. VOIDED counts in all of its windows
         or in none. A release that came before its reserve names windows that may not be open,
         and `counted` is one number for all of them. With 0 the ledger repairs each.
]]
--- @include "clock" "amount" "spend" "tombstone" "journal"
local id, reserved_ms, org, agent, cost, windows, idem, epoch, detail = unpack(ARGV)
local call, now_ms = redis.call, time_ms()
local record = call('HGET', KEYS[3], id) or ''
-- As read_hold reads it, but its end is compared: most settles name what is held.
local quote, owner, payer, held_ms, body, own_idem, own_windows = string.match(record,
    '^1|(%d+)|(%a+)|([%w_-]+)|%w*|(%d+)|%d+|(%w*)|(%w*)|(.*)$')
local is_open = own_windows == windows and own_idem == idem and is_amount(quote)
local is_named = is_open and held_ms == reserved_ms and payer == agent
local refusal
-- Looked at together, because one search costs as much as one argument does; and not again at
-- what is the same, to the byte, as what is held.
if not (is_amount(cost) and string.find(org .. '|' .. epoch, '^[%w_-]+|%w+$') and (is_named
    or string.find(reserved_ms .. '|' .. agent .. '|' .. id .. '|' .. windows .. '|' .. idem,
        '^%d+|[%w_-]+|%w+|[%w:,_-]+|%w*$'))) then
    --- @include "argument"
    refusal = {'BADARG', bad_argument({'id', '^%w+$', 'reserved_ms', '^%d+$',
        'org', '^[%w_-]+$', 'agent', '^[%w_-]+$', 'amount_microcents', '^%d+$',
        'windows', '^[%w:,_-]+$', 'idem_digest', '^%w*$', 'epoch', '^%w+$'})
        or 'amount_microcents'}
end
local status, counted = 'SETTLED', cost
if not refusal and not is_open then
    --- @include "hold" "other"
    refusal, status, counted, quote, payer, body, owner =
        other_end(record, agent, cost, windows, idem)
end
if refusal then
    --- @include "answer"
    return answer(refusal, KEYS[2], nil, now_ms)
end
-- A journal of another type fails here, before any money has moved.
call('XLEN', KEYS[6])

local scope, held, at_ms = 'agent.' .. payer, '0', digits(now_ms)
call('ZREM', KEYS[4], org .. '|' .. id)
if is_open then
    held = quote == '0' and quote or '-' .. quote
    call('HDEL', KEYS[3], id)
end
bury(KEYS[5], 'settled', quote, cost, counted, reserved_ms, at_ms, owner, payer, '')
if body and idem ~= '' then
    --- @include "idem"
    end_key(KEYS[8], id, body, 'settled', cost)
end
append(KEYS[6], 'settle', id, '', org, payer, cost, counted, reserved_ms, at_ms, windows, epoch,
    detail)
-- Last, as in every end: where somebody has made a counter no integer, all the rest is said, so
-- a repeat counts nothing twice, and the ledger mends what is missing.
if status ~= 'JOURNALED' then
    add(9, #KEYS, scope, held, counted)
end
if is_open then
    call('HINCRBY', KEYS[7], scope .. '.open', '-1')
end
local over = is_open and cost - quote or 0
-- What comes after an end grows spent, too: by all that it counts.
if over > 0 or (not is_open and counted + 0 > 0) then
    --- @include "cents" "places" "fields" "place" "settings" "chain" "rules" "asked" "budget"
    --- @include "limits" "counters" "notice" "overage"
    note_overage(KEYS[1], KEYS[6], 9, {id = id, org = org, agent = payer,
        reserved_ms = reserved_ms, at_ms = now_ms, windows = windows, epoch = epoch})
end
return {status, cost, over > 0 and digits(over) or '0', call('HINCRBY', KEYS[2], 'seq', '1'),
    now_ms}
