#!lua flags=allow-oom
-- Is everything accounted for? Constant work per group, however long the log is.
-- KEYS  log, groups, sequence, trimmed, then per group named in ARGV its counts   ARGV  the groups
-- Returns {sequence, trimmed, length of the log, first number, last number, undeclared groups,
--          per group {name, has a place 0|1, start, done, dead, skipped, pending, number of the last one given: at least, at most}}
-- The two differ only where somebody deleted the event that was given last.
local LOG = KEYS[1]
local function counter(n) return tonumber(n or 0) or 0 end
local seq, trimmed = counter(redis.call('GET', KEYS[3])), counter(redis.call('GET', KEYS[4]))
local length, first, last, places, strangers = 0, 0, 0, {}, {}
if redis.call('EXISTS', LOG) == 1 then
  length = redis.call('XLEN', LOG)
  first, last = (number_upto(LOG, '0') or -1) + 1, number_upto(LOG, '+') or 0
  for _, g in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
    local f = {}
    for i = 1, #g, 2 do f[g[i]] = g[i+1] end
    places[f['name']] = f
    if redis.call('HEXISTS', KEYS[2], f['name']) == 0 then strangers[#strangers+1] = f['name'] end
  end
end
local rows = {}
for i, name in ipairs(ARGV) do
  local counts = redis.call('HMGET', KEYS[4 + i], 'start', 'done', 'dead', 'skipped')
  local place, pending, least, most = places[name], 0, 0, 0
  if place then
    pending = place['pending']
    local upto, exact = number_upto(LOG, place['last-delivered-id'])
    least = upto or seq
    most = least
    -- Where the event given last is gone, those between its neighbours may have been given too.
    if upto and exact and exact ~= place['last-delivered-id'] then
      local behind = first_of('XRANGE', LOG, '(' .. place['last-delivered-id'], '+')
      most = behind and behind - 1 or seq
    end
  end
  rows[i] = {name, place and 1 or 0, counter(counts[1]), counter(counts[2]), counter(counts[3]), counter(counts[4]), pending, least, most}
end
return {seq, trimmed, length, first, last, strangers, rows}
