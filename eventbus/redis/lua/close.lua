#!lua flags=allow-oom
-- A group is past its holes: how many of them it met is known now, and none is looked for any more.
-- KEYS  its counts   ARGV  start and holes as they were read, how many it met
-- Returns 1, or 0 when somebody was faster.
local counts = redis.call('HMGET', KEYS[1], 'start', 'holes')
if counts[1] ~= ARGV[1] or counts[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'start', counts[1] + ARGV[3], 'holes', 0)
return 1
