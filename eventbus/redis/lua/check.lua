#!lua flags=allow-oom
-- Is everything accounted for? Constant work per group, however long the log is.
-- KEYS  log, groups, sequence, trimmed, then per group named in ARGV its counts   ARGV  the groups
-- Returns {sequence, trimmed, length of the log, first number, last number, undeclared groups,
--          per group {name, has a place 0|1, start, done, dead, skipped, pending, number of the last one given: at least, at most}}
-- The two differ only where somebody deleted the event that was given last.
local LOG = KEYS[1]
local function number(n) return tonumber(n or 0) or 0 end
local seq, trimmed = number(redis.call('GET', KEYS[3])), number(redis.call('GET', KEYS[4]))
local length, first, last, places, strangers = 0, 0, 0, {}, {}
if redis.call('EXISTS', LOG) == 1 then
  length = redis.call('XLEN', LOG)
  local ends = {redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1], redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]}
  if ends[1] then first, last = number(ends[1][2][6]), number(ends[2][2][6]) end
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
    local at = redis.call('XREVRANGE', LOG, place['last-delivered-id'], '-', 'COUNT', 1)[1]
    least = at and number(at[2][6]) or math.min(trimmed, first > 0 and first - 1 or seq)
    most = least
    if not at or at[1] ~= place['last-delivered-id'] then
      local after = redis.call('XRANGE', LOG, '(' .. place['last-delivered-id'], '+', 'COUNT', 1)[1]
      most = math.max(least, after and number(after[2][6]) - 1 or seq)
    end
  end
  rows[i] = {name, place and 1 or 0, number(counts[1]), number(counts[2]), number(counts[3]), number(counts[4]), pending, least, most}
end
return {seq, trimmed, length, first, last, strangers, rows}
