#!lua flags=allow-oom
-- How a group stands. ARGV  bell, group
-- Returns {entries not read yet, held by consumers, waiting behind a lane, due later, ready, dead, paused ms,
--          ms since the oldest unfinished event was stored}
-- or an empty list when there is no such group.
local f = standing()
if not f then return {} end
local fresh = unread(f['last-delivered-id'])
local waiting, due = redis.call('HLEN', NEXT), redis.call('ZCARD', DUE)
local ready = redis.call('LLEN', READY) + redis.call('LLEN', SUSPECTS)
local oldest
if f['pending'] > 0 then oldest = redis.call('XPENDING', LOG, GROUP)[2]
elseif fresh > 0 then oldest = redis.call('XRANGE', LOG, '(' .. f['last-delivered-id'], '+', 'COUNT', 1)[1][1] end
local age = oldest and math.max(0, now() - string.match(oldest, '%d+')) or 0
return {fresh, f['pending'] - waiting - due - ready, waiting, due, ready,
        redis.call('XLEN', DEAD), math.max(0, redis.call('PTTL', PAUSE)), age}
