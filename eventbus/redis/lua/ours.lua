#!lua flags=allow-oom
-- Is a delivery still its taker's? KEYS  log   ARGV  group, entry id, consumer, fence   Returns 1 or 0.
local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1, ARGV[3])[1]
return p and p[4] == tonumber(ARGV[4]) and 1 or 0
