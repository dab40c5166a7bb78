#!lua flags=allow-oom
-- Where one entry of the log stands with a group.
-- KEYS  log, due   ARGV  group, entry id
-- Returns {} when the group has no place in the log, else {its place, owner of the entry or '', due (ms) or ''}.
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #row, 2 do facts[row[i]] = row[i+1] end
  if facts['name'] == ARGV[1] then
    local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)[1]
    return {facts['last-delivered-id'], p and p[2] or '', redis.call('ZSCORE', KEYS[2], ARGV[2]) or ''}
  end
end
return {}
