#!lua flags=allow-oom
-- Take back what dead consumers held, bury what keeps killing its process, forget consumers that hold nothing.
-- ARGV  bell, group, poison limit, consumers that are surely alive: the caller's own, which may have slept past a beat
-- Returns {taken back, consumers forgotten, buried}: at most STEP in all, so that no call is long. Call it until all are 0.
-- Only consumers that stopped beating are looked at: the three pseudo-consumers never beat and own no running work.
if redis.call('EXISTS', LOG) == 0 then return {0, 0, 0} end
local awake = {}
for i = 4, #ARGV do awake[ARGV[i]] = true end
local STEP = 200
local time, back, reaped, buried, woke = now(), 0, 0, 0, 0
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', LOG, GROUP)) do
  local left = STEP - back - reaped - buried
  if left <= 0 then break end
  local name = c[2]
  local until_ms = redis.call('ZSCORE', ALIVE, name)
  if string.sub(name, 1, 1) ~= '~' and not awake[name] and (not until_ms or tonumber(until_ms) < time) then
    local held = redis.call('XPENDING', LOG, GROUP, '-', '+', left, name)
    for _, p in ipairs(held) do
      local id = p[1]
      local crashes = redis.call('HINCRBY', CRASHES, id, 1)
      if crashes >= tonumber(ARGV[3]) then
        local entry = redis.call('XRANGE', LOG, id, id)[1]
        if entry then
          woke = woke + bury(id, entry[2][4], 'poison', 'the process that handled it died', crashes)
          buried = buried + 1
        else
          redis.call('XACK', LOG, GROUP, id)
          vanished(id)
        end
      else
        make_ready(id)
        back = back + 1
      end
    end
    if #held == 0 then
      redis.call('XGROUP', 'DELCONSUMER', LOG, GROUP, name)
      reaped = reaped + 1
    end
  end
end
redis.call('ZREMRANGEBYSCORE', ALIVE, '-inf', time - 3600000)
if back > 0 or woke > 0 then ring() end
return {back, reaped, buried}
