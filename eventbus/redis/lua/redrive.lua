#!lua
-- A dead letter again: a copy of the event, addressed to its group, at the end of the log. Event id and ledger stay.
-- ARGV  bell, group, id of the dead letter, new wire ('' keeps the event as it is)
-- Returns {1, entry id, sequence}; {0} when there is no such dead letter (any more); {-1} when the group is not declared:
-- a copy would be for nobody.
local letter = redis.call('XRANGE', DEAD, ARGV[3], ARGV[3])[1]
if not letter then return {0} end
local f = {}
for i = 1, #letter[2], 2 do f[letter[2][i]] = letter[2][i+1] end
if not f['e'] then return {0} end
if redis.call('HEXISTS', GROUPS, GROUP) == 0 then return {-1} end
local id, seq = address(f['t'], f['k'], ARGV[4] ~= '' and ARGV[4] or f['e'])
redis.call('XDEL', DEAD, ARGV[3])
ring()
return {1, id, seq}
