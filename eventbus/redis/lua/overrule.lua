#!lua flags=allow-oom
-- The ledger: a person says how an action ended of which nobody knew.
-- KEYS  ledger row   ARGV  done | retry, result, ms to keep it   Returns 1, or 0 when its outcome is not unknown.
if redis.call('HGET', KEYS[1], 'state') ~= 'unknown' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
