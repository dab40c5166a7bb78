-- Set before every group script: the names of its keys and the moves all of them make.
--
-- What a group took and did not finish stays in its pending list of the log. Who owns an entry says what it waits for:
--   a consumer   that consumer runs it
--   ~wait        it stands in a lane behind the event that runs
--   ~due         a retry whose time has not come
--   ~ready       it may run; nobody runs it
-- A lane is a linked list: TAIL maps an ordering key to its last id, NEXT an id to the one behind it.
-- The fence of a delivery is its owner and its delivery counter, which take.lua sets to a number used once.

local LOG, GROUPS, ALIVE, FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local TAIL, NEXT, READY, SUSPECTS, DUE = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local ATTEMPTS, CRASHES, PAUSE, DEAD = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local COUNTS, TOLD, REPLAYED, SEQUENCE = KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local BELL, GROUP = ARGV[1], ARGV[2]

local FEW = 8        -- up to here single look-ups are cheaper than reading the consumer's whole pending list
local MANY = 10000   -- more than any consumer holds

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- How the group stands in the log (XINFO GROUPS), or nil when it has no place there.
local function standing()
  if redis.call('EXISTS', LOG) == 0 then return nil end
  for _, g in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
    if g[2] == GROUP then
      local f = {}
      for i = 1, #g, 2 do f[g[i]] = g[i+1] end
      return f
    end
  end
end

local function pending(id)
  return id and #redis.call('XPENDING', LOG, GROUP, id, id, 1) > 0
end

-- id -> fence for those of the ids that the consumer owns
local function owned(consumer, ids)
  local found = {}
  if #ids <= FEW then
    for _, id in ipairs(ids) do
      local p = redis.call('XPENDING', LOG, GROUP, id, id, 1, consumer)[1]
      if p then found[id] = p[4] end
    end
  else
    local first, last = ids[1], ids[1]
    for _, id in ipairs(ids) do
      if before(id, first) then first = id end
      if before(last, id) then last = id end
    end
    for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, first, last, MANY, consumer)) do found[p[1]] = p[4] end
  end
  return found
end

local function give(id, owner)
  redis.call('XCLAIM', LOG, GROUP, owner, 0, id, 'JUSTID')
end

-- One death may be anybody's fault; what was held at two stays a suspect until it is finished.
local function make_ready(id)
  give(id, '~ready')
  local crashes = tonumber(redis.call('HGET', CRASHES, id) or 0)
  redis.call('RPUSH', crashes > 1 and SUSPECTS or READY, id)
end

-- Put a new delivery at the end of its lane. Returns true when it has to wait there.
local function line_up(id, key)
  if key == '' then return false end
  local ahead = redis.call('HGET', TAIL, key)
  redis.call('HSET', TAIL, key, id)
  if not ahead then return false end
  redis.call('HSET', NEXT, ahead, id)
  give(id, '~wait')
  return true
end

-- Take a finished delivery out of its lane. Returns the id behind it, which may run now, or nil.
local function unlink(id, key)
  if key == '' then return nil end
  local behind = redis.call('HGET', NEXT, id)
  if behind then
    redis.call('HDEL', NEXT, id)
    return behind
  end
  if redis.call('HGET', TAIL, key) == id then redis.call('HDEL', TAIL, key) end
  return nil
end

-- The lane of a finished delivery goes on. Returns 1 when somebody may run now.
local function release(id, key)
  local behind = unlink(id, key)
  if behind then make_ready(behind) end
  return behind and 1 or 0
end

local function forget(id)
  redis.call('HDEL', ATTEMPTS, id)
  redis.call('HDEL', CRASHES, id)
end

-- How deliveries ended: done, dead, or skipped because the group does not want the topic. check.lua adds them up.
local function count(what, n)
  if n > 0 then redis.call('HINCRBY', COUNTS, what, n) end
end

-- Somebody deleted the entry from the log while it waited here: its lane must not wait for it. Rare, so it may be slow.
local function vanished(id)
  forget(id)
  local behind = redis.call('HGET', NEXT, id)
  redis.call('HDEL', NEXT, id)
  if behind then make_ready(behind) end
  local tails = redis.call('HGETALL', TAIL)
  for i = 1, #tails, 2 do
    if tails[i+1] == id then redis.call('HDEL', TAIL, tails[i]) end
  end
end

-- A delivery is given out as 8 values in a row: id, fence, attempt, suspect, topic, key, sequence, wire. One flat list,
-- because a table for each costs more time than all the rest.
local function hand(out, id, fence, attempt, suspect, f)
  local n = #out
  out[n+1], out[n+2], out[n+3], out[n+4], out[n+5], out[n+6], out[n+7], out[n+8] =
    id, fence, attempt, suspect, f[2], f[4], f[6], f[8]
end

-- Own these entries from now on, under a fence that was never used, and hand them out.
local function claim(out, consumer, ids, suspect)
  local fence = redis.call('INCRBY', FENCE, 1) + 1   -- from 2: a first reading by XREADGROUP has 1
  local call = {'XCLAIM', LOG, GROUP, consumer, 0}
  for _, id in ipairs(ids) do call[#call+1] = id end
  call[#call+1] = 'RETRYCOUNT'
  call[#call+1] = fence
  local tried, found = redis.call('HMGET', ATTEMPTS, unpack(ids)), {}
  for _, e in ipairs(redis.call(unpack(call))) do found[e[1]] = e[2] end
  for i, id in ipairs(ids) do
    if found[id] then hand(out, id, fence, (tried[i] or 0) + 1, suspect, found[id])
    else vanished(id) end
  end
end

-- To the dead letters, with the whole entry, in the same step as the acknowledgement.
local function bury(id, key, reason, err, attempts)
  local entry = redis.call('XRANGE', LOG, id, id)[1] or {id, {}}
  redis.call('XADD', DEAD, '*', 'entry', id, 'reason', reason, 'error', err, 'attempts', attempts, unpack(entry[2]))
  local woke = release(id, key)
  redis.call('XACK', LOG, GROUP, id)
  forget(id)
  count('dead', 1)
  return woke
end

local function ring()
  redis.call('PUBLISH', BELL, GROUP)
end

-- A function that tells whether a topic is wanted by these patterns, separated by blanks.
local function topics(patterns)
  local exact, wild = {}, {}
  for pattern in string.gmatch(patterns, '%S+') do
    if pattern == '>' then wild[#wild+1] = '.'
    elseif string.find(pattern, '[*>]') then
      local p = string.gsub(pattern, '%-', '%%-')
      p = string.gsub(p, '%.', '%%.')
      p = string.gsub(p, '%*', '[^.]+')
      wild[#wild+1] = '^' .. string.gsub(p, '>$', '.+') .. '$'
    else exact[pattern] = true end
  end
  return function(topic)
    if exact[topic] then return true end
    for _, p in ipairs(wild) do if string.find(topic, p) then return true end end
    return false
  end
end

-- How many events stand in the log behind this place: numbers are dense, so it is a subtraction.
local function unread(last_delivered)
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  if not last or last[1] == last_delivered then return 0 end
  return math.max(0, (number_upto(LOG, '+') or 0) - (number_upto(LOG, last_delivered) or 0))
end

-- Append a copy for this group alone: all others skip it.
local function address(topic, key, wire)
  local seq = redis.call('INCR', SEQUENCE)
  return redis.call('XADD', LOG, '*', 't', topic, 'k', key, 's', seq, 'e', wire, 'f', GROUP), seq
end
