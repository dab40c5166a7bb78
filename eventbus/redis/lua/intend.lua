#!lua flags=allow-oom
-- The ledger, before an action: may it be done? It runs on a full Redis too: what was accepted is brought to its end.
-- KEYS  ledger row, log   ARGV  fingerprint, who, ms after which another's intent counts as abandoned,
--                              then the fence of the delivery: group ('' for none), entry id, consumer, fence
-- Returns {go} | {done, result} | {unknown, result of an earlier attempt} | {conflict} | {busy} | {fenced}.
-- unknown: an earlier attempt meant to do it and nobody noted how it ended.
if ARGV[4] ~= '' then
  local p = redis.call('XPENDING', KEYS[2], ARGV[4], ARGV[5], ARGV[5], 1, ARGV[6])[1]
  if not p or p[4] ~= tonumber(ARGV[7]) then return {'fenced'} end
end
local row = redis.call('HMGET', KEYS[1], 'state', 'fingerprint', 'result', 'who', 'at')
local state = row[1]
if state == 'retry' or state == 'failed' then state = false end   -- surely not done: the key may be used anew
if state and row[2] ~= ARGV[1] then return {'conflict'} end
if state == 'done' then return {'done', row[3]} end
local t = redis.call('TIME')
local at = t[1] * 1000 + math.floor(t[2] / 1000)
if state == 'intent' and ARGV[4] == '' and at - row[5] < tonumber(ARGV[3]) then return {'busy'} end
redis.call('HSET', KEYS[1], 'state', 'intent', 'fingerprint', ARGV[1], 'who', ARGV[2], 'at', at)
redis.call('PERSIST', KEYS[1])   -- an open intent is never forgotten
return state and {'unknown', row[3] or ''} or {'go'}
