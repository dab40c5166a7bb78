#!lua flags=allow-oom
-- Forget events that every declared group has finished and that are older, or more, than the retention tail.
-- KEYS  log, groups, trimmed   ARGV  retention in ms, events to keep at most, most to forget in this call
-- Returns how many were forgotten; -1 when a declared group has no place in the log (nothing is trimmed then).
-- The only deleter of the log. It counts what it deletes, so that check.lua sees what somebody else deleted.
local STEP = 1000   -- events that are too many are looked at before they go
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local t = redis.call('TIME')
local old = string.format('%.0f-0', math.max(0, t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[1]))
local low, places = nil, {}
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local f = {}
  for i = 1, #g, 2 do f[g[i]] = g[i+1] end
  local pending = redis.call('XPENDING', KEYS[1], f['name'])
  local place = pending[1] > 0 and pending[2] or f['last-delivered-id']
  places[f['name']] = true
  if not low or before(place, low) then low = place end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not places[name] then return -1 end
end
local function cut(id)   -- whole nodes of the stream, and never what a group has not finished
  return redis.call('XTRIM', KEYS[1], 'MINID', '~', low and before(low, id) and low or id, 'LIMIT', ARGV[3])
end
local gone = cut(old)
local most = math.min(redis.call('XLEN', KEYS[1]) - ARGV[2], ARGV[3] - gone, STEP)
if most > 0 then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', most + 1)
  gone = gone + cut(oldest[#oldest][1])
end
redis.call('INCRBY', KEYS[3], gone)
return gone
