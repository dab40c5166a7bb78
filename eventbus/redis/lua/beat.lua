#!lua flags=allow-oom
-- A consumer is alive: nobody takes over what it holds before its lease ends.
-- KEYS  alive   ARGV  consumer, lease in ms (0: it leaves)
local t = redis.call('TIME')
if ARGV[2] == '0' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
