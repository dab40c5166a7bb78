#!lua flags=allow-oom
-- Retire a subscription: forget the group, its place and what it has not handled. Its dead letters stay until dropped.
-- KEYS  those of the group, then the retired ones
-- ARGV  bell, group, the backlog the caller was shown (not handled: unread, held, waiting, due and ready)
-- Returns {1, backlog}, or {0, backlog} when more than that is not handled: nothing was retired; {-1, 0}: no such group.
local found = standing()
local backlog = found and found['pending'] + unread(found['last-delivered-id']) or 0
if not found and redis.call('HEXISTS', GROUPS, GROUP) == 0 then return {-1, 0} end
if backlog > tonumber(ARGV[3]) then return {0, backlog} end
if found then redis.call('XGROUP', 'DESTROY', LOG, GROUP) end
redis.call('HDEL', GROUPS, GROUP)
if redis.call('XLEN', DEAD) > 0 then redis.call('HSET', KEYS[18], GROUP, redis.call('XLEN', DEAD)) end
redis.call('DEL', TAIL, NEXT, READY, SUSPECTS, DUE, ATTEMPTS, CRASHES, PAUSE, COUNTS, TOLD, REPLAYED)
return {1, backlog}
