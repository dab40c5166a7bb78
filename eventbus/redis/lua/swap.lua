#!lua flags=allow-oom
-- Compare and set: write a row of a table that has a lifetime, if it still holds what was read.
-- KEYS  the row   ARGV  what it has to hold ('' for nothing), what it shall hold ('' to delete it), ms to keep it
-- Returns 1, or 0 when it holds something else by now.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
