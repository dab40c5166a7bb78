#!lua flags=allow-oom
-- Forget events that every declared group has finished and that are older than the retention tail.
-- KEYS  log, groups   ARGV  retention in ms, most to forget in this call
-- Returns how many were forgotten; -1 when a declared group has no place in the log (nothing is trimmed then).
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function before(a, b)   -- ids are numbers: compared as text 10-0 would stand before 9-0
  local ams, aseq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or (ams == bms and aseq < bseq)
end
local t = redis.call('TIME')
local low = string.format('%.0f-0', math.max(0, t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[1]))
local places = {}
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local f = {}
  for i = 1, #g, 2 do f[g[i]] = g[i+1] end
  local pending = redis.call('XPENDING', KEYS[1], f['name'])
  local place = pending[1] > 0 and pending[2] or f['last-delivered-id']
  places[f['name']] = true
  if before(place, low) then low = place end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not places[name] then return -1 end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', low, 'LIMIT', ARGV[2])
