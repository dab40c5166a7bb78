-- Set before publish.lua and schedule.lua: what a dedupe key remembers is `entry id, sequence, fingerprint, event id`.

-- The answer for an event whose idempotency key was used before: {duplicate or conflict, entry id, sequence, event id}.
local function seen(before, memo)
  local id, number, was, event = string.match(before, '^(%S+) (%S+) (%S+) (.*)$')
  local same = was == string.match(memo, '^%S+')
  return {same and 'duplicate' or 'conflict', id, tonumber(number), event}
end
