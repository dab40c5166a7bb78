#!lua flags=allow-oom
-- Done: acknowledge deliveries and let their lanes go on. A stale owner changes nothing.
-- ARGV  bell, group, consumer, then per delivery: id, fence, ordering key ('' for none)
-- A group that keeps no order any more may still have lanes: they are released by key like all others.
-- Returns per delivery 1, or 0 where the caller no longer owns it (or settled it before).
local ids, out, done, woke = {}, {}, {}, 0
for i = 4, #ARGV, 3 do ids[#ids+1] = ARGV[i] end
local mine = owned(ARGV[3], ids)
for n, id in ipairs(ids) do
  local a = 4 + (n - 1) * 3
  if mine[id] == tonumber(ARGV[a+1]) then
    mine[id] = nil
    done[#done+1] = id
    woke = woke + release(id, ARGV[a+2])
    out[n] = 1
  else out[n] = 0 end
end
if #done > 0 then
  redis.call('XACK', LOG, GROUP, unpack(done))
  if redis.call('EXISTS', ATTEMPTS) == 1 then redis.call('HDEL', ATTEMPTS, unpack(done)) end
  if redis.call('EXISTS', CRASHES) == 1 then redis.call('HDEL', CRASHES, unpack(done)) end
end
if woke > 0 then ring() end
return out
