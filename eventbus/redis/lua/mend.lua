#!lua flags=allow-oom
-- What waits for nobody goes on. Lanes that are whole are left alone; the work is bounded, so call it now and then.
-- They are not whole after Redis applied half of a script (an append-only file that was cut, see docs/operations.md), or
-- after somebody acknowledged deliveries by hand.
-- ARGV  bell, group
-- Returns how many go on. Among the OLDEST pending ones it finds a lane that hangs; one behind them comes to be old.
local OLDEST = 100
local owned_by, moved = {}, 0
for _, c in ipairs(redis.call('XPENDING', LOG, GROUP)[4] or {}) do owned_by[c[1]] = tonumber(c[2]) end

-- The lists of what is ready name all of it and nothing else: else they are made anew.
local ready, listed = owned_by['~ready'] or 0, redis.call('LLEN', READY) + redis.call('LLEN', SUSPECTS)
if ready ~= listed then
  redis.call('DEL', READY, SUSPECTS)
  for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '-', '+', MANY, '~ready')) do make_ready(p[1]) end
  moved = moved + math.max(0, ready - listed)
end

-- A retry without a time may run: nobody knows its time any more.
if (owned_by['~due'] or 0) > redis.call('ZCARD', DUE) then
  for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '-', '+', MANY, '~due')) do
    if not redis.call('ZSCORE', DUE, p[1]) then
      make_ready(p[1])
      moved = moved + 1
    end
  end
end

-- The first of its lane does not wait, unless it is linked behind a later one (a group that was set back).
local seen, first = {}, {}
for _, p in ipairs(owned_by['~wait'] and redis.call('XPENDING', LOG, GROUP, '-', '+', OLDEST) or {}) do
  local entry = redis.call('XRANGE', LOG, p[1], p[1])[1]
  local key = entry and entry[2][4] or p[1]   -- of one that was deleted the lane is not known
  if p[2] == '~wait' and not seen[key] then first[#first+1] = {p[1], key} end
  seen[key] = true
end
if #first > 0 then
  local links, ahead, behind = redis.call('HGETALL', NEXT), {}, {}
  for i = 1, #links, 2 do ahead[links[i+1]], behind[links[i]] = links[i], links[i+1] end
  for _, one in ipairs(first) do
    local id, key = one[1], one[2]
    if not pending(ahead[id]) then
      if ahead[id] then redis.call('HDEL', NEXT, ahead[id]) end
      make_ready(id)
      moved = moved + 1
      while behind[id] do id = behind[id] end
      if redis.call('HEXISTS', TAIL, key) == 0 and key ~= id then redis.call('HSET', TAIL, key, id) end
    end
  end
end
if moved > 0 then ring() end
return moved
