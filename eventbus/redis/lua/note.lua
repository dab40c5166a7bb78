#!lua flags=allow-oom
-- One line more in the trail of an event; the oldest ones make room. What says the same as the last line of its kind is
-- counted there: of how often, since when and until when, the newest time and the newest rest are kept.
-- KEYS  trail   ARGV  the line in four parts: whose it is, what is said, when, the rest; how many are kept, ms to keep
local FAR = 20   -- lines of others that may stand behind the last one of its kind
local said = ARGV[1] .. ARGV[2]
local function line(times, first)
  local last = times > 1 and ',"until":"' .. ARGV[3] .. '"' or ''
  return said .. ',"times":' .. times .. ',"at":"' .. first .. '"' .. last .. ARGV[4]
end
local place, times, first
for i = -1, -FAR, -1 do
  local before = redis.call('LINDEX', KEYS[1], i)
  if not before then break end
  if string.sub(before, 1, #ARGV[1]) == ARGV[1] then
    if string.sub(before, 1, #said) == said then
      place, times, first = i, string.match(before, '^,"times":(%d+),"at":"([^"]*)"', #said + 1)
    end
    break
  end
end
if times then
  redis.call('LSET', KEYS[1], place, line(times + 1, first))
else
  redis.call('RPUSH', KEYS[1], line(1, ARGV[3]))
  redis.call('LTRIM', KEYS[1], -ARGV[5], -1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
