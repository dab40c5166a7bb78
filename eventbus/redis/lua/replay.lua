#!lua
-- History again for one group: copies of what it has finished, addressed to it, at the end of the log. One page a call.
-- ARGV  bell, group, patterns separated by blanks, token of this replay, page number, first id, last id, entries to look at
-- Returns {copied, looked at, id to go on with or ''}. Asking for a page again (the reply was lost) copies nothing twice.
-- What the group has not finished comes anyway; copies are not copied again.
local last = redis.call('HMGET', REPLAYED, 'token', 'page', 'copied', 'looked', 'next')
if last[1] == ARGV[4] and last[2] == ARGV[5] then return {tonumber(last[3]), tonumber(last[4]), last[5]} end
local place = standing()
local delivered = place and place['last-delivered-id'] or '0-0'
local wanted, copied, after = topics(ARGV[3]), 0, ''
local page = redis.call('XRANGE', LOG, ARGV[6], ARGV[7], 'COUNT', ARGV[8])
for _, e in ipairs(page) do
  local id, f = e[1], e[2]
  after = '(' .. id
  if before(delivered, id) then
    after = ''
    break
  end
  if number(e) and f[9] ~= 'f' and wanted(f[2]) and #redis.call('XPENDING', LOG, GROUP, id, id, 1) == 0 then
    address(f[2], f[4], f[8])
    copied = copied + 1
  end
end
if #page < tonumber(ARGV[8]) then after = '' end
redis.call('HSET', REPLAYED, 'token', ARGV[4], 'page', ARGV[5], 'copied', copied, 'looked', #page, 'next', after)
redis.call('PEXPIRE', REPLAYED, 3600000)
if copied > 0 then ring() end
return {copied, #page, after}
