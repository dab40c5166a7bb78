#!lua
-- Keep an event until it is due, once per idempotency key.
-- KEYS  later, letters, dedupe key
-- ARGV  bell, due in ms of server time, topic, ordering key, memo (fingerprint and event id), window in ms, wire
-- Returns {scheduled, ~, 0}, or {duplicate | conflict, entry id (~ while it is not in the log), sequence, event id}.
local LATER, LETTERS, once = KEYS[1], KEYS[2], KEYS[3]
local due, topic, key, memo, window, wire = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local before = redis.call('GET', once)
if before then
  touch_once(once, before, window)
  return seen(before, memo)
end
local t = redis.call('TIME')
local turn = string.format('%.0f%06d', t[1], t[2])   -- those of one due time come in the order of their turns
redis.call('SET', once, '~ ' .. turn .. ' ' .. memo)   -- for as long as it waits; promote.lua begins the window
redis.call('HSET', LETTERS, once, table.concat({#topic, #key, #memo, window, topic .. key .. memo .. wire}, ' '))
redis.call('ZADD', LATER, due, turn .. ' ' .. once)
redis.call('PUBLISH', ARGV[1], '~later')
return {'scheduled', '~', 0}
