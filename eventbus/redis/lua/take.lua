#!lua flags=allow-oom
-- Give a consumer up to n deliveries: due retries first, then what is ready, then new entries of the log.
-- ARGV  bell, group, consumer, n, lease in ms, 1 if it may run a suspect now, 1 to keep order by key
-- Returns {entries read, ms to the next due retry or -1, ms the group is paused, suspects waiting,
--          {id, fence, attempt, suspect, topic, key, sequence, wire}...}
-- A suspect is an entry that was held at two deaths of a process; it runs beside no other suspect of its process.
local me, n = ARGV[3], tonumber(ARGV[4])
local time = now()
redis.call('ZADD', ALIVE, time + ARGV[5], me)

local paused = redis.call('PTTL', PAUSE)
if paused > 0 then return {0, -1, paused, 0, {}} end

local out = {}
local function add(rows)
  for _, row in ipairs(rows) do out[#out+1] = row end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', time, 'LIMIT', 0, 100)) do
  redis.call('ZREM', DUE, id)
  make_ready(id)
end
if ARGV[6] == '1' and n > 0 then
  local id = redis.call('LPOP', SUSPECTS)
  if id then add(claim(me, {id}, 1)) end
end
if #out < n then
  local ids = redis.call('LPOP', READY, n - #out)
  if ids then add(claim(me, ids, 0)) end
end

local read = 0
if #out < n then
  local got = redis.call('XREADGROUP', 'GROUP', GROUP, me, 'COUNT', n - #out, 'STREAMS', LOG, '>')
  if got then
    local wanted = topics(redis.call('HGET', GROUPS, GROUP) or '')
    local unwanted = {}
    for _, e in ipairs(got[1][2]) do
      read = read + 1
      local id, f = e[1], e[2]
      local key = f[4]
      local ours = f[9] == 'f' and f[10] == GROUP or f[9] ~= 'f' and wanted(f[2])
      local before = ours and key ~= '' and ARGV[7] ~= '0' and redis.call('HGET', TAIL, key)
      if ours and key ~= '' and ARGV[7] ~= '0' then redis.call('HSET', TAIL, key, id) end
      if before then
        redis.call('HSET', NEXT, before, id)
        give(id, '~wait')
      elseif ours then out[#out+1] = {id, 1, 1, 0, f[2], key, f[6], f[8]}
      else unwanted[#unwanted+1] = id end
    end
    if #unwanted > 0 then
      redis.call('XACK', LOG, GROUP, unpack(unwanted))
      count('skipped', #unwanted)
    end
  end
end

local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
return {read, due[2] and math.max(0, due[2] - time) or -1, 0, redis.call('LLEN', SUSPECTS), out}
