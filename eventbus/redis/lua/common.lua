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
local BELL, GROUP = ARGV[1], ARGV[2]

local FEW = 8        -- up to here single look-ups are cheaper than reading the consumer's whole pending list
local MANY = 10000   -- more than any consumer holds

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
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
    for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '-', '+', MANY, consumer)) do found[p[1]] = p[4] end
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

-- The lane of a finished delivery goes on: the one behind it may run. Returns 1 when there is one.
local function release(id, key)
  if key == '' then return 0 end
  local behind = redis.call('HGET', NEXT, id)
  if behind then
    redis.call('HDEL', NEXT, id)
    make_ready(behind)
    return 1
  end
  if redis.call('HGET', TAIL, key) == id then redis.call('HDEL', TAIL, key) end
  return 0
end

local function forget(id)
  redis.call('HDEL', ATTEMPTS, id)
  redis.call('HDEL', CRASHES, id)
end

-- To the dead letters, with the whole entry, in the same step as the acknowledgement.
local function bury(id, key, reason, err, attempts)
  local entry = redis.call('XRANGE', LOG, id, id)[1]
  redis.call('XADD', DEAD, '*', 'entry', id, 'reason', reason, 'error', err, 'attempts', attempts, unpack(entry[2]))
  local woke = release(id, key)
  redis.call('XACK', LOG, GROUP, id)
  forget(id)
  return woke, entry[2]
end

local function ring()
  redis.call('PUBLISH', BELL, GROUP)
end
