#!lua flags=allow-oom
-- Forget events that every declared group has finished and that are older, or more, than the retention tail.
-- KEYS  log, groups, trimmed   ARGV  retention in ms, events to keep at most, most to forget in this call
-- Returns how many were forgotten; -1 when a declared group has no place in the log (nothing is trimmed then).
-- The only deleter of the log. It counts what it deletes, so that check.lua sees what somebody else deleted.
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
local most = math.min(redis.call('XLEN', KEYS[1]) - ARGV[2], ARGV[3] - gone)
if most > 0 then
  -- The place of the first event to stay, by its number: one entry is read for each step of the search.
  local stays = number_upto(KEYS[1], '+')
  stays = stays and stays - ARGV[2] + 1 or 0
  local function search(low_n, high_n, id)   -- the lowest n from whose id on all numbers are that high
    while low_n < high_n do
      local middle = math.floor((low_n + high_n) / 2)
      local n = first_of('XRANGE', KEYS[1], id(middle), '+')
      if n and n < stays then low_n = middle + 1 else high_n = middle end
    end
    return low_n
  end
  local function ms_of(command, from, to)
    return tonumber(string.match(redis.call(command, KEYS[1], from, to, 'COUNT', 1)[1][1], '%d+'))
  end
  local ms = search(ms_of('XRANGE', '-', '+'), ms_of('XREVRANGE', '+', '-') + 1,
    function(n) return string.format('%.0f-0', n) end)
  ms = math.max(0, ms - 1)   -- the cut is within the millisecond before
  local function within(n) return string.format('%.0f-%.0f', ms, n) end
  gone = gone + cut(within(search(0, 2^32, within)))
end
redis.call('INCRBY', KEYS[3], gone)
return gone
