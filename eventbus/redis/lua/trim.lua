#!lua flags=allow-oom
-- Forget events that every declared group has finished and that are older, or more, than the retention tail.
-- KEYS  log, groups, sequence, trimmed   ARGV  retention in ms, events to keep at most, most to forget in this call
-- Returns how many were forgotten; -1 when a declared group has no place in the log (nothing is trimmed then).
-- The only deleter of the log. It counts what it deletes, so that check.lua sees what somebody else deleted.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function before(a, b)   -- ids are numbers: compared as text 10-0 would stand before 9-0
  local ams, aseq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or (ams == bms and aseq < bseq)
end
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
local gone = redis.call('XTRIM', KEYS[1], 'MINID', '~', low and before(low, old) and low or old, 'LIMIT', ARGV[3])
-- By count: numbers are dense, so the entries before a place are a subtraction, unless somebody deleted some.
local length = redis.call('XLEN', KEYS[1])
local seq = tonumber(redis.call('GET', KEYS[3]) or 0)
local trimmed = redis.call('INCRBY', KEYS[4], gone)
local most = math.min(length - ARGV[2], ARGV[3] - gone)
if most > 0 and seq - trimmed == length then
  if low then
    local at = redis.call('XRANGE', KEYS[1], low, '+', 'COUNT', 1)[1]
    if at then most = math.min(most, at[2][6] - trimmed - 1) end
    if low == '0-0' then most = 0 end
  end
  if most > 0 then
    local more = redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', length - most)
    redis.call('INCRBY', KEYS[4], more)
    gone = gone + more
  end
end
return gone
