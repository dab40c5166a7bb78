#!lua flags=allow-oom
-- One line more in the trail of an event; the oldest ones make room.
-- KEYS  trail   ARGV  line, how many are kept, ms to keep them
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
