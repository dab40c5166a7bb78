#!lua flags=allow-oom
-- Consumers are alive: nobody takes over what they hold before their lease ends.
-- KEYS  alive   ARGV  lease in ms (0: they leave), consumers
local t = redis.call('TIME')
for i = 2, #ARGV do
  if ARGV[1] == '0' then redis.call('ZREM', KEYS[1], ARGV[i])
  else redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1], ARGV[i]) end
end
return #ARGV - 1
