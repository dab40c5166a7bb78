#!lua flags=allow-oom
-- Are the lanes of a group whole? Changes nothing. Looks at MANY of each kind at most: then a zero is no proof.
-- ARGV  bell, group
-- Returns {waiting behind nobody, lanes whose tail is not pending, ready but not listed or listed but not ready,
--          for later but without a time or with a time but not for later}, all 0 where mend.lua has nothing to do.
local function held_by(owner)
  local held, n = {}, 0
  for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '-', '+', MANY, owner)) do held[p[1]], n = true, n + 1 end
  return held, n
end
local function pairs_of(hash)
  return redis.call('HLEN', hash) <= MANY and redis.call('HGETALL', hash) or {}
end

local waiting, alone = held_by('~wait')
local links = pairs_of(NEXT)
for i = 1, #links, 2 do
  if waiting[links[i+1]] and pending(links[i]) then alone = alone - 1 end
end
if alone == MANY or redis.call('HLEN', NEXT) > MANY then alone = 0 end

local tails, nowhere = pairs_of(TAIL), 0
for i = 2, #tails, 2 do
  if not pending(tails[i]) then nowhere = nowhere + 1 end
end

local _, ready = held_by('~ready')
local listed = redis.call('LLEN', READY) + redis.call('LLEN', SUSPECTS)

local later, due = held_by('~due')
for _, id in ipairs(redis.call('ZRANGE', DUE, 0, MANY - 1)) do due = due + (later[id] and -1 or 1) end
return {alone, nowhere, ready < MANY and math.abs(ready - listed) or 0, due}
