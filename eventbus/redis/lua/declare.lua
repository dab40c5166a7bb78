#!lua flags=allow-oom
-- Declare a durable subscription: what it takes, and where it starts if it is new.
-- ARGV  bell, group, patterns separated by blanks, start: 0 (earliest) or $ (from now)
-- Returns 1 when the group is new, else 0. A known group keeps its place and takes the new patterns.
local known = redis.call('HEXISTS', GROUPS, GROUP)
local exists = false
if redis.call('EXISTS', LOG) == 1 then
  for _, g in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do exists = exists or g[2] == GROUP end
end
-- A declared group whose place is lost starts at the earliest: rather twice than never.
if not exists then
  redis.call('DEL', TAIL, NEXT, READY, SUSPECTS, DUE, ATTEMPTS, CRASHES)   -- lanes of lost deliveries would never end
  redis.call('XGROUP', 'CREATE', LOG, GROUP, known == 1 and '0' or ARGV[4], 'MKSTREAM')
end
redis.call('HSET', GROUPS, GROUP, ARGV[3])
return 1 - known
