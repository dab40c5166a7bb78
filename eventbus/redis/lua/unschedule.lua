#!lua flags=allow-oom
-- Forget a scheduled event; its idempotency key is free again.
-- KEYS  later, letters, dedupe key   Returns 1, or 0 when nothing is scheduled under this key (any more).
local turn = string.match(redis.call('GET', KEYS[3]) or '', '^~ (%d+) ')
if not turn or redis.call('ZREM', KEYS[1], turn .. ' ' .. KEYS[3]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], KEYS[3])
redis.call('DEL', KEYS[3])
return 1
