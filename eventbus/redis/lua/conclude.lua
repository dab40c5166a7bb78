#!lua flags=allow-oom
-- The ledger, after an action: how it ended.
-- KEYS  ledger row   ARGV  who, state: done | unknown | retry (surely not done) | failed (refused for good),
--                          | open (nothing was asked of it), its result or why not, ms to keep it, fingerprint
-- Returns 1, or 0 when somebody else has taken the action over since. What is done is recorded as a fact all the same.
local row = redis.call('HMGET', KEYS[1], 'state', 'who', 'fingerprint')
local undone = row[1] == 'retry' or row[1] == 'failed'
if row[1] == 'done' or (row[3] and not undone and row[3] ~= ARGV[5]) then return 0 end
if ARGV[2] ~= 'done' and row[2] ~= ARGV[1] then return 0 end
if ARGV[2] == 'open' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'result', ARGV[3], 'fingerprint', ARGV[5])
if ARGV[2] == 'unknown' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return row[2] == ARGV[1] and 1 or 0
