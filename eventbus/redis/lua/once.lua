-- Set before publish.lua and schedule.lua: what a dedupe key remembers is `entry id, sequence, fingerprint, event id`.
-- While its event is scheduled the entry id is ~, and the sequence the time it was scheduled (us), 16 digits.

-- Write a dedupe key again, without shortening what it remembers: a scheduled event's has no end before it is appended.
local function touch_once(once, before, window)
  local left = redis.call('PTTL', once)
  if left < 0 then redis.call('SET', once, before)
  else redis.call('PEXPIRE', once, math.max(window, left)) end
end

-- The answer for an event whose idempotency key was used before: {duplicate or conflict, entry id, sequence, event id}.
local function seen(before, memo)
  local id, number, was, event = string.match(before, '^(%S+) (%S+) (%S+) (.*)$')
  local same = was == string.match(memo, '^%S+')
  return {same and 'duplicate' or 'conflict', id, id == '~' and 0 or tonumber(number), event}
end
