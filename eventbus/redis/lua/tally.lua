#!lua flags=allow-oom
-- Change rows of numbers, in one step and once per key.
-- KEYS  the rows (a hash: name to parts), when each was changed last (a sorted set, ms), the memory of the key
-- ARGV  ms to remember the key, most rows, ms without a change after which a row makes room for a new one,
--       then per row: name, '' to add or the time (ms) of what is to stand there, its parts
-- Parts are written `name=number;name=number`. A row that is set has its time among them, as `at`: a later one stays.
-- Returns {1, changes of new rows that found no room}, or {0, 0} for a known key. The hash counts these in its row ''.
local ROWS, CHANGED, KNOWN = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', KNOWN) == 1 then return {0, 0} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function read(text)
  local parts = {}
  for name, number in string.gmatch(text or '', '([^=;]+)=([^;]+)') do parts[name] = tonumber(number) end
  return parts
end
local function write(row, parts)
  local out = {}
  for name, number in pairs(parts) do out[#out + 1] = name .. '=' .. string.format('%.17g', number) end
  table.sort(out)
  redis.call('HSET', ROWS, row, table.concat(out, ';'))
end
local function room()
  if redis.call('ZCARD', CHANGED) < tonumber(ARGV[2]) then return true end
  local oldest = redis.call('ZRANGE', CHANGED, 0, 0, 'WITHSCORES')
  if #oldest == 0 or tonumber(oldest[2]) > now - ARGV[3] then return false end
  redis.call('ZREM', CHANGED, oldest[1])
  redis.call('HDEL', ROWS, oldest[1])
  return true
end

local refused = 0
for i = 4, #ARGV, 3 do
  local row, at, parts = ARGV[i], ARGV[i+1], read(ARGV[i+2])
  local before = redis.call('HGET', ROWS, row)
  if before or room() then
    local found = read(before)
    if at == '' then
      for name, number in pairs(parts) do found[name] = (found[name] or 0) + number end
      write(row, found)
    else
      parts.at = math.min(tonumber(at), now)   -- a clock that is ahead must not keep everybody else's out
      if parts.at >= (found.at or 0) then write(row, parts) end
    end
    redis.call('ZADD', CHANGED, now, row)
  else
    refused = refused + 1
  end
end
if refused > 0 then
  local all = read(redis.call('HGET', ROWS, ''))
  all.refused = (all.refused or 0) + refused
  write('', all)
end
redis.call('SET', KNOWN, '1', 'PX', ARGV[1])
return {1, refused}
