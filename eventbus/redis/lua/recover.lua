#!lua flags=allow-oom
-- After a lost reply: what this consumer owns but does not know of is ready again. No crash is blamed.
-- ARGV  bell, group, consumer, then per delivery it knows of: id, fence
-- Returns how many it did not know of.
local known, back = {}, 0
for i = 4, #ARGV, 2 do known[ARGV[i]] = tonumber(ARGV[i+1]) end
for _, p in ipairs(redis.call('XPENDING', LOG, GROUP, '-', '+', MANY, ARGV[3])) do
  if known[p[1]] ~= p[4] then
    make_ready(p[1])
    back = back + 1
  end
end
if back > 0 then ring() end
return back
