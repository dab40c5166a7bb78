#!lua flags=allow-oom
-- How a group stands. ARGV  bell, group
-- Returns {entries not read yet (-1: not known), held by consumers, waiting behind a lane, due later, ready, dead, paused ms}
-- or an empty list when there is no such group.
if redis.call('EXISTS', LOG) == 0 then return {} end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', LOG)) do
  if g[2] == GROUP then
    local f = {}
    for i = 1, #g, 2 do f[g[i]] = g[i+1] end
    local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
    local unread = tonumber(f['lag'] or -1) or -1
    if not last or last[1] == f['last-delivered-id'] then unread = 0
    elseif unread == 0 then unread = -1 end
    local waiting, due = redis.call('HLEN', NEXT), redis.call('ZCARD', DUE)
    local ready = redis.call('LLEN', READY) + redis.call('LLEN', SUSPECTS)
    return {unread, f['pending'] - waiting - due - ready, waiting, due, ready,
            redis.call('XLEN', DEAD), math.max(0, redis.call('PTTL', PAUSE))}
  end
end
return {}
