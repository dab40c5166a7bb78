#!lua flags=allow-oom
-- May a call to an account leave now, and if not, when?
-- KEYS  the account's gate, then one key for each budget it counts against
-- ARGV  ms a booking may lie ahead, ms a probe may take (0 for who only asks), then spacing (us) and burst of each budget
-- Returns {'go' | 'probe', ms to wait first, number of the probe} with a place booked in every budget, or {why, ms} with
-- none booked:
--   floor  the service named a time   open  the breaker is open   full N  the Nth budget is used up for longer
-- After a floor, as after an open breaker, one call goes ahead; the others wait for how it ends.
-- Budgets are GCRA: a key holds the theoretical arrival time of the next call (ITU-T I.371, annex A).
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local gate = redis.call('HMGET', KEYS[1], 'floor', 'open', 'probe')
local function ms(us) return math.ceil(us / 1000) end
local floor, open = tonumber(gate[1] or 0), tonumber(gate[2] or 0)
local kind = 'go'
if floor > 0 or open > 0 then
  local wait = math.max(floor, open) - now
  if wait <= 0 then wait = math.min((gate[3] or 0) - now, 500000) end   -- the probe may answer any moment
  if wait > 0 then return {floor > open and 'floor' or 'open', ms(wait)} end
  kind = 'probe'
end
local latest, budget, next_at = now, 0, {}
for i = 2, #KEYS do
  local spacing, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  next_at[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or now), now)
  local free = next_at[i] - (burst - 1) * spacing
  if free > latest then latest, budget = free, i - 1 end
end
if latest - now > ARGV[1] * 1000 then return {'full ' .. budget, ms(latest - now)} end
for i = 2, #KEYS do
  local after = math.max(next_at[i], latest) + ARGV[2 * i - 1]
  redis.call('SET', KEYS[i], string.format('%.0f', after), 'PX', ms(after - now) + 1000)
end
if kind == 'go' or ARGV[2] == '0' then return {kind, ms(latest - now)} end
redis.call('HSET', KEYS[1], 'probe', string.format('%.0f', latest + ARGV[2] * 1000))
return {kind, ms(latest - now), redis.call('HINCRBY', KEYS[1], 'number', 1)}
