#!lua flags=allow-oom
-- Not done: try again later, or hand back. The lane stays with the delivery.
-- ARGV  bell, group, consumer, ms to pause the whole group, then per delivery: id, fence, delay in ms, 1 if it counts
-- Returns per delivery 1, or 0 where the caller no longer owns it. Delay 0 makes it ready at once.
local ids, out, ready = {}, {}, 0
for i = 5, #ARGV, 4 do ids[#ids+1] = ARGV[i] end
local mine, time = owned(ARGV[3], ids), now()
for n, id in ipairs(ids) do
  local a = 5 + (n - 1) * 4
  local delay = tonumber(ARGV[a+2])
  if mine[id] == tonumber(ARGV[a+1]) then
    mine[id] = nil
    if ARGV[a+3] == '1' then redis.call('HINCRBY', ATTEMPTS, id, 1) end
    if delay <= 0 then
      make_ready(id)
      ready = ready + 1
    else
      give(id, '~due')
      redis.call('ZADD', DUE, time + delay, id)
    end
    out[n] = 1
  else out[n] = 0 end
end
local pause = tonumber(ARGV[4])
if pause > 0 and pause > redis.call('PTTL', PAUSE) then
  redis.call('SET', PAUSE, '1', 'PX', pause)
  redis.call('PUBLISH', BELL, '~pause ' .. GROUP .. ' ' .. pause)
end
if ready > 0 then ring() end
return out
