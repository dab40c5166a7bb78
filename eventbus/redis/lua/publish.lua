#!lua
-- Append events to the log, each once per idempotency key, and ring the bell.
-- KEYS  log, sequence, one dedupe key per event
-- ARGV  bell, 1 to write even for a duplicate (so that WAIT and WAITAOF have something to confirm),
--       then per event: topic, ordering key, memo (fingerprint and event id), window in ms, wire
-- Returns per event {status, entry id, sequence, event id}; status stored | duplicate | conflict.
-- Not flagged allow-oom: when memory is out Redis refuses it before the first line, so nothing is half done.
local LOG, SEQUENCE, FIRST = KEYS[1], KEYS[2], 3
local known, fresh, here = redis.call('MGET', unpack(KEYS, FIRST)), 0, {}
for i = 1, #known do
  local once = KEYS[FIRST + i - 1]
  if not known[i] and not here[once] then
    here[once] = true
    fresh = fresh + 1
  end
end
local seq = fresh > 0 and redis.call('INCRBY', SEQUENCE, fresh) - fresh or 0

local out = {}
for i = 1, #known do
  local a, once = 2 + (i - 1) * 5, KEYS[FIRST + i - 1]
  local memo, window = ARGV[a+3], ARGV[a+4]
  local before = known[i] or here[once]
  if before == true then
    seq = seq + 1
    local number = string.format('%.0f', seq)
    local id = redis.call('XADD', LOG, '*', 't', ARGV[a+1], 'k', ARGV[a+2], 's', number, 'e', ARGV[a+5])
    here[once] = id .. ' ' .. number .. ' ' .. memo
    redis.call('SET', once, here[once], 'PX', window)
    out[i] = {'stored', id, seq}
  else
    out[i] = seen(before, memo)
    if ARGV[2] == '1' and known[i] then touch_once(once, before, window) end
  end
end
if fresh > 0 then redis.call('PUBLISH', ARGV[1], '') end
return out
