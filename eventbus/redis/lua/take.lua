#!lua flags=allow-oom
-- Give a consumer up to n deliveries: due retries first, then what is ready, then new entries of the log.
-- ARGV  bell, group, consumer, n, lease in ms, 1 if it may run a suspect now, 1 to keep order by key
-- Returns {entries read, ms to the next due retry or -1, ms the group is paused, suspects waiting,
--          {id, fence, attempt, suspect, topic, key, sequence, wire, ...}}
-- A suspect is an entry that was held at two deaths of a process; it runs beside no other suspect of its process.
local me, n = ARGV[3], tonumber(ARGV[4])
local time = now()
redis.call('ZADD', ALIVE, time + ARGV[5], me)

local paused = redis.call('PTTL', PAUSE)
if paused > 0 then return {0, -1, paused, 0, {}} end

local out = {}
local function room() return n - #out / 8 end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', time, 'LIMIT', 0, 100)) do
  redis.call('ZREM', DUE, id)
  make_ready(id)
end
if ARGV[6] == '1' and n > 0 then
  local id = redis.call('LPOP', SUSPECTS)
  if id then claim(out, me, {id}, 1) end
end
if room() > 0 then
  local ids = redis.call('LPOP', READY, room())
  if ids then claim(out, me, ids, 0) end
end

-- What is pending behind the group's place, where somebody set it back: id -> {id, owner, ms, fence}.
local function theirs(count)
  local last, found = redis.call('XPENDING', LOG, GROUP)[3], {}
  local place = last and standing()['last-delivered-id']
  if not last or not before(place, last) then return found end
  for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '(' .. place, '+', count)) do found[p[1]] = p end
  return found
end

local read = 0
if room() > 0 then
  local kept = theirs(room())
  local got = redis.call('XREADGROUP', 'GROUP', GROUP, me, 'COUNT', room(), 'STREAMS', LOG, '>')
  if got then
    local wanted = topics(redis.call('HGET', GROUPS, GROUP) or '')
    local unwanted, skipped, ordered = {}, 0, ARGV[7] ~= '0'
    for _, e in ipairs(got[1][2]) do
      read = read + 1
      local id, f = e[1], e[2]
      local ours = f[9] == 'f' and f[10] == GROUP or f[9] ~= 'f' and number(e) and wanted(f[2])
      if kept[id] then   -- it was read before and is not finished: whoever had it has it
        redis.call('XCLAIM', LOG, GROUP, kept[id][2], 0, id, 'RETRYCOUNT', kept[id][4], 'JUSTID')
      elseif not ours then
        unwanted[#unwanted+1] = id
        if number(e) then skipped = skipped + 1 end
      elseif not (ordered and line_up(id, f[4])) then hand(out, id, 1, 1, 0, f) end
    end
    if #unwanted > 0 then
      redis.call('XACK', LOG, GROUP, unpack(unwanted))
      count('skipped', skipped)
    end
  end
end

local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
return {read, due[2] and math.max(0, due[2] - time) or -1, 0, redis.call('LLEN', SUSPECTS), out}
