-- close_of: the instant at which a proposed window ends, 0 where it is not in the proposal.
local function close_of(proposal, kind)
    return string.match(proposal, kind .. '|[^|]*|%d+|(%d+)') or '0'
end
