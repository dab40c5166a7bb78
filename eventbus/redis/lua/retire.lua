#!lua flags=allow-oom
-- Retire a subscription: forget the group, its place and what it has not handled. Its dead letters stay until dropped.
-- ARGV  bell, group, the backlog the caller was shown (not handled: unread, held, waiting, due and ready)
-- Returns {1, backlog}, or {0, backlog} when more than that is not handled: nothing was retired; {-1, 0}: no such group.
local backlog = 0
local found = false
if redis.call('EXISTS', LOG) == 1 then
  for _, g in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
    local f = {}
    for i = 1, #g, 2 do f[g[i]] = g[i+1] end
    if f['name'] == GROUP then
      found = true
      backlog = f['pending'] + unread(f['last-delivered-id'])
    end
  end
end
if not found and redis.call('HEXISTS', GROUPS, GROUP) == 0 then return {-1, 0} end
if backlog > tonumber(ARGV[3]) then return {0, backlog} end
if found then redis.call('XGROUP', 'DESTROY', LOG, GROUP) end
redis.call('HDEL', GROUPS, GROUP)
redis.call('DEL', TAIL, NEXT, READY, SUSPECTS, DUE, ATTEMPTS, CRASHES, PAUSE, COUNTS, TOLD, REPLAYED)
return {1, backlog}
