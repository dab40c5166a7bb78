#!lua flags=allow-oom
-- Declare a durable subscription: what it takes, and where it starts if it is new.
-- ARGV  bell, group, patterns separated by blanks, the id it starts behind: 0 (earliest), $ (from now) or an id
-- Returns 1 when the group is new, else 0. A known group keeps its place and takes the new patterns.
local known = redis.call('HEXISTS', GROUPS, GROUP)
-- A declared group whose place is lost starts at the earliest: rather twice than never.
if not standing() then
  local start = known == 1 and '0' or ARGV[4]
  redis.call('DEL', TAIL, NEXT, READY, SUSPECTS, DUE, ATTEMPTS, CRASHES, COUNTS)   -- lanes of lost deliveries would never end
  redis.call('XGROUP', 'CREATE', LOG, GROUP, start, 'MKSTREAM')
  -- Its deliveries are counted from the number of the last event before them.
  local last = redis.call('GET', SEQUENCE) or 0
  local base = start ~= '$' and number_upto(LOG, start) or last
  -- What somebody deleted before it began is not missed by it: it comes past these numbers, or began behind them.
  local front = number_upto(LOG, '0') or last
  local holes = start ~= '$' and last - front - redis.call('XLEN', LOG) or 0
  redis.call('HSET', COUNTS, 'start', base, 'holes', math.max(0, holes), 'past', last)
end
redis.call('HSET', GROUPS, GROUP, ARGV[3])
return 1 - known
