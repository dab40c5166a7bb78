#!lua flags=allow-oom
-- Done: acknowledge deliveries and let their lanes go on. A stale owner changes nothing.
-- ARGV  bell, group, consumer, 1 to be given what comes next in the lanes, then per delivery: id, fence, ordering key ('' for none)
-- A group that keeps no order any more may still have lanes: they are released by key like all others.
-- Returns {{per delivery 1 done | 0 somebody else's | 2 nobody's: settled before}, {what comes next, as take.lua gives it}}
local ids, out, done, after = {}, {}, {}, {}
for i = 5, #ARGV, 3 do ids[#ids+1] = ARGV[i] end
local mine = owned(ARGV[3], ids)
for n, id in ipairs(ids) do
  local a = 5 + (n - 1) * 3
  if mine[id] == tonumber(ARGV[a+1]) then
    mine[id] = nil
    done[#done+1] = id
    local behind = unlink(id, ARGV[a+2])
    if behind then after[#after+1] = behind end
    out[n] = 1
  else
    out[n] = redis.call('XPENDING', LOG, GROUP, id, id, 1)[1] and 0 or 2
  end
end
if #done > 0 then
  redis.call('XACK', LOG, GROUP, unpack(done))
  count('done', #done)
  if redis.call('EXISTS', ATTEMPTS) == 1 then redis.call('HDEL', ATTEMPTS, unpack(done)) end
  if redis.call('EXISTS', CRASHES) == 1 then redis.call('HDEL', CRASHES, unpack(done)) end
end
if #after == 0 then return {out, {}} end
if ARGV[4] == '1' and redis.call('PTTL', PAUSE) < 0 and redis.call('EXISTS', CRASHES) == 0 then
  local next = {}
  claim(next, ARGV[3], after, 0)
  return {out, next}
end
for _, id in ipairs(after) do make_ready(id) end
ring()
return {out, {}}
