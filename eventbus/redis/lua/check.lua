#!lua flags=allow-oom
-- Is everything accounted for? Constant work per group, however long the log is.
-- KEYS  log, groups, sequence, trimmed, then per group named in ARGV its counts   ARGV  the groups
-- Returns {sequence, trimmed, length of the log, first number, last number, undeclared groups,
--          per group {name, has a place 0|1, start, holes, past, done, dead, skipped, pending, number of the last one given}}
-- What somebody deleted right behind the place of a group counts as given: it will never be.
local LOG = KEYS[1]
local function counter(n) return tonumber(n or 0) or 0 end
-- Deliveries behind the group's place, where somebody set it back: they will be passed again, and counted then.
local function set_back(log, name, place)
  local last = redis.call('XPENDING', log, name)[3]
  if not last or not before(place['last-delivered-id'], last) then return 0 end
  return #redis.call('XPENDING', log, name, '(' .. place['last-delivered-id'], '+', place['pending'])
end
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
  local counts = redis.call('HMGET', KEYS[4 + i], 'start', 'holes', 'past', 'done', 'dead', 'skipped')
  for n = 1, 6 do counts[n] = counter(counts[n]) end
  local start, holes, past, done, dead, skipped = unpack(counts)
  local place, pending, given = places[name], 0, 0
  if place then
    pending = place['pending'] - set_back(LOG, name, place)
    local behind = first_of('XRANGE', LOG, '(' .. place['last-delivered-id'], '+')
    given = behind and behind - 1 or math.max(seq, last)
  end
  rows[i] = {name, place and 1 or 0, start, holes, past, done, dead, skipped, pending, given}
end
return {seq, trimmed, length, first, last, strangers, rows}
