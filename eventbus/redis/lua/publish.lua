#!lua
-- Append events to the log, each once per idempotency key, and announce them.
-- KEYS  log, sequence, one dedupe key per event
-- ARGV  bell channel, live channel, then per event: topic, ordering key, event id, fingerprint, window in ms, wire
-- Returns per event {status, entry id, sequence, event id}; status stored | duplicate | conflict.
-- Not flagged allow-oom: when memory is out Redis refuses it before the first line, so nothing is half done.
local out, stored = {}, 0
for i = 3, #KEYS do
  local a = 2 + (i - 3) * 6
  local topic, key, event, print, window, wire = ARGV[a+1], ARGV[a+2], ARGV[a+3], ARGV[a+4], ARGV[a+5], ARGV[a+6]
  local known = redis.call('GET', KEYS[i])
  if known then
    local id, seq, was, first = string.match(known, '^(%S+) (%S+) (%S+) (.*)$')
    out[#out+1] = {was == print and 'duplicate' or 'conflict', id, tonumber(seq), first}
  else
    local seq = redis.call('INCR', KEYS[2])
    local id = redis.call('XADD', KEYS[1], '*', 't', topic, 'k', key, 's', seq, 'e', wire)
    redis.call('SET', KEYS[i], id .. ' ' .. seq .. ' ' .. print .. ' ' .. event, 'PX', window)
    redis.call('PUBLISH', ARGV[2], id .. ' ' .. seq .. ' ' .. topic .. ' ' .. wire)
    stored = stored + 1
    out[#out+1] = {'stored', id, seq, event}
  end
end
if stored > 0 then redis.call('PUBLISH', ARGV[1], '') end
return out
