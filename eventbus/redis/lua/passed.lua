#!lua flags=allow-oom
-- How a call that the gate let through ended.
-- KEYS  the account's gate
-- ARGV  ok | bad | broken (its credentials) | none (says nothing of the service), the number of the probe that it was
--       or 0: one that took too long and has a successor is a call like any other; ms that nobody may call ('0': none),
--       then of the breaker: failures in a row, window (s), calls, percent of them failed, ms it stays open at first, ms
--       at most
-- Returns opened | closed when this call changed the breaker, else ''.
local G, how = KEYS[1], ARGV[1]
local probe = ARGV[2] ~= '0' and ARGV[2] == redis.call('HGET', G, 'number')
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function at(us) return string.format('%.0f', us) end
local floor = tonumber(redis.call('HGET', G, 'floor') or 0)
if ARGV[3] ~= '0' then
  if now + ARGV[3] * 1000 > floor then redis.call('HSET', G, 'floor', at(now + ARGV[3] * 1000)) end
elseif probe and floor <= now then redis.call('HDEL', G, 'floor') end   -- the service did not ask us to wait again
if probe then redis.call('HDEL', G, 'probe') end
local function open()
  local times = redis.call('HINCRBY', G, 'times', 1)
  redis.call('HSET', G, 'open', at(now + 1000 * math.min(ARGV[9], ARGV[8] * 2 ^ (times - 1))))
end
local said = ''
if redis.call('HEXISTS', G, 'open') == 1 then
  if probe and how == 'ok' then
    redis.call('HDEL', G, 'open', 'times', 'row', 'calls')
    said = 'closed'
  elseif probe and how ~= 'none' then open() end
elseif how ~= 'none' then
  -- calls: `window number, calls, failed` of this window and of the one before
  local window = math.floor(now / 1000000 / ARGV[5])
  local calls = redis.call('HGET', G, 'calls') or '0 0 0 0 0'
  local number, n, bad, n0, bad0 = string.match(calls, '(%d+) (%d+) (%d+) (%d+) (%d+)')
  if tonumber(number) ~= window then
    if tonumber(number) ~= window - 1 then n, bad = 0, 0 end
    n0, bad0, n, bad = n, bad, 0, 0
  end
  local failed = how == 'ok' and 0 or 1
  n, bad = n + 1, bad + failed
  redis.call('HSET', G, 'calls', string.format('%d %d %d %d %d', window, n, bad, n0, bad0))
  local row = 0
  if failed == 1 then row = redis.call('HINCRBY', G, 'row', 1) else redis.call('HDEL', G, 'row') end
  local all, lost = n + n0, bad + bad0
  if how == 'broken' or row >= tonumber(ARGV[4])
    or (failed == 1 and all >= tonumber(ARGV[6]) and lost * 100 >= ARGV[7] * all) then
    open()
    said = 'opened'
  end
end
redis.call('PEXPIRE', G, 86400000 + ARGV[3])
return said
