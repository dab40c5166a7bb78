#!lua
-- Append events to the log, each once per idempotency key, and announce them. One that is due later waits in LATER.
-- KEYS  log, sequence, later, later's letters, one dedupe key per event
-- ARGV  bell channel, live channel, 1 to write even for a duplicate (so that WAIT and WAITAOF have something to confirm),
--       then per event: topic, ordering key, event id, fingerprint, window in ms, due in ms of server time (0: now), wire
-- Returns per event {status, entry id, sequence, event id}; status stored | scheduled | duplicate | conflict.
-- Not flagged allow-oom: when memory is out Redis refuses it before the first line, so nothing is half done.
local LOG, SEQUENCE, LATER, LETTERS, FIRST = KEYS[1], KEYS[2], KEYS[3], KEYS[4], 5
local BELL, LIVE, touch = ARGV[1], ARGV[2], ARGV[3] == '1'
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local known, fresh = redis.call('MGET', unpack(KEYS, FIRST)), 0
for i = 1, #known do
  if not known[i] and tonumber(ARGV[9 + (i - 1) * 7]) <= now then fresh = fresh + 1 end
end
-- One step for all; what turns out to be a duplicate within this call gives its number back.
local seq = fresh > 0 and redis.call('INCRBY', SEQUENCE, fresh) - fresh or 0

local out, said, here, rung = {}, {}, {}, false
for i = 1, #known do
  local a, once = 3 + (i - 1) * 7, KEYS[FIRST + i - 1]
  local topic, key, event, print, window, due, wire =
    ARGV[a+1], ARGV[a+2], ARGV[a+3], ARGV[a+4], ARGV[a+5], tonumber(ARGV[a+6]), ARGV[a+7]
  local before = known[i] or here[once]
  if before then
    local id, number, was, first = string.match(before, '^(%S+) (%S+) (%S+) (.*)$')
    if touch then redis.call('PEXPIRE', once, window) end
    out[i] = {was == print and 'duplicate' or 'conflict', id, tonumber(number), first}
  elseif due > now then
    here[once] = '~ 0 ' .. print .. ' ' .. event
    redis.call('SET', once, here[once], 'PX', due - now + window)
    redis.call('HSET', LETTERS, once,
      table.concat({#topic, #key, #event, #print, window, topic .. key .. event .. print .. wire}, ' '))
    redis.call('ZADD', LATER, due, once)
    rung = '~later'
    out[i] = {'scheduled', '~', 0, event}
  else
    seq = seq + 1
    local id = redis.call('XADD', LOG, '*', 't', topic, 'k', key, 's', seq, 'e', wire)
    here[once] = id .. ' ' .. seq .. ' ' .. print .. ' ' .. event
    redis.call('SET', once, here[once], 'PX', window)
    said[#said+1] = id .. ' ' .. seq .. ' ' .. topic .. ' ' .. #wire .. ' ' .. wire
    out[i] = {'stored', id, seq, event}
  end
end
if #said < fresh then redis.call('DECRBY', SEQUENCE, fresh - #said) end
if #said > 0 then
  redis.call('PUBLISH', LIVE, table.concat(said))
  redis.call('PUBLISH', BELL, '')
end
if rung then redis.call('PUBLISH', BELL, rung) end
return out
