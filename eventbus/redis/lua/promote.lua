#!lua flags=allow-oom
-- Append the scheduled events that are due, in the order of their times, and of scheduling where these are equal. Any
-- worker may call it at any time.
-- KEYS  log, sequence, later, letters   ARGV  bell, most to append in this call
-- Returns {appended, ms to the next one or -1}. Never early: the time is the server's.
-- Allowed without memory: an event moves from one place of this server to another.
local LOG, SEQUENCE, LATER, LETTERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local count = 0
for _, place in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local once = string.match(place, '^%d+ (.*)$')
  local letter = redis.call('HGET', LETTERS, once)
  redis.call('ZREM', LATER, place)
  redis.call('HDEL', LETTERS, once)
  if letter then
    local a, b, c, window, at = string.match(letter, '^(%d+) (%d+) (%d+) (%d+) ()')
    local function part(length)
      at = at + length
      return string.sub(letter, at - length, at - 1)
    end
    local topic, key, memo, wire = part(a), part(b), part(c), string.sub(letter, at)
    local number = string.format('%.0f', redis.call('INCR', SEQUENCE))
    local id = redis.call('XADD', LOG, '*', 't', topic, 'k', key, 's', number, 'e', wire)
    redis.call('SET', once, id .. ' ' .. number .. ' ' .. memo, 'PX', window)
    count = count + 1
  end
end
if count > 0 then redis.call('PUBLISH', ARGV[1], '') end
local first = redis.call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
return {count, first[2] and math.max(0, first[2] - now) or -1}
