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
local function admit(entries, fence, suspect)
  if #entries == 0 then return end
  local ids = {}
  for i, e in ipairs(entries) do ids[i] = e[1] end
  local tried = redis.call('HMGET', ATTEMPTS, unpack(ids))
  for i, e in ipairs(entries) do
    local f = e[2]
    out[#out+1] = {e[1], fence, (tried[i] or 0) + 1, suspect, f[2], f[4], f[6], f[8]}
  end
end
local function claim(ids, suspect)
  local fence = redis.call('INCRBY', FENCE, 1) + 1   -- from 2: a first reading by XREADGROUP has 1
  local call = {'XCLAIM', LOG, GROUP, me, 0}
  for _, id in ipairs(ids) do call[#call+1] = id end
  call[#call+1] = 'RETRYCOUNT'
  call[#call+1] = fence
  admit(redis.call(unpack(call)), fence, suspect)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', time, 'LIMIT', 0, 100)) do
  redis.call('ZREM', DUE, id)
  make_ready(id)
end
if ARGV[6] == '1' and n > 0 then
  local id = redis.call('LPOP', SUSPECTS)
  if id then claim({id}, 1) end
end
if #out < n then
  local ids = redis.call('LPOP', READY, n - #out)
  if ids then claim(ids, 0) end
end

local read = 0
if #out < n then
  local got = redis.call('XREADGROUP', 'GROUP', GROUP, me, 'COUNT', n - #out, 'STREAMS', LOG, '>')
  if got then
    local exact, wild = {}, {}
    for pattern in string.gmatch(redis.call('HGET', GROUPS, GROUP) or '', '%S+') do
      if pattern == '>' then wild[#wild+1] = '.'
      elseif string.find(pattern, '[*>]') then
        local p = string.gsub(pattern, '%-', '%%-')
        p = string.gsub(p, '%.', '%%.')
        p = string.gsub(p, '%*', '[^.]+')
        wild[#wild+1] = '^' .. string.gsub(p, '>$', '.+') .. '$'
      else exact[pattern] = true end
    end
    local function wanted(topic)
      if exact[topic] then return true end
      for _, p in ipairs(wild) do if string.find(topic, p) then return true end end
      return false
    end
    local fresh, unwanted = {}, {}
    for _, e in ipairs(got[1][2]) do
      read = read + 1
      local id, topic, key = e[1], e[2][2], e[2][4]
      if not wanted(topic) then unwanted[#unwanted+1] = id
      elseif key == '' or ARGV[7] == '0' then fresh[#fresh+1] = e
      else
        local before = redis.call('HGET', TAIL, key)
        redis.call('HSET', TAIL, key, id)
        if before then
          redis.call('HSET', NEXT, before, id)
          give(id, '~wait')
        else fresh[#fresh+1] = e end
      end
    end
    if #unwanted > 0 then redis.call('XACK', LOG, GROUP, unpack(unwanted)) end
    for _, e in ipairs(fresh) do
      local f = e[2]
      out[#out+1] = {e[1], 1, 1, 0, f[2], f[4], f[6], f[8]}
    end
  end
end

local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
return {read, due[2] and math.max(0, due[2] - time) or -1, 0, redis.call('LLEN', SUSPECTS), out}
