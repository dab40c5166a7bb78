-- Set before every script that compares places in the log. Every event of ours has a dense number, its field `s`;
-- an entry that somebody added by hand has none, and stands between its neighbours.

local FEW_STRANGERS = 100   -- how far to look past them

-- Ids are numbers: compared as text 10-0 would stand before 9-0.
local function before(a, b)
  local ams, aseq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or (ams == bms and aseq < bseq)
end

-- The number of an entry, or nil when it is not one of ours.
local function number(entry)
  local f = entry[2]
  return f[7] == 'e' and tonumber(f[6]) or nil
end

-- The first event of ours that such a call finds: its number and id. Whole entries are read, so more than one only where
-- strangers are in the way.
local function first_of(command, log, from, to)
  for _, most in ipairs({1, FEW_STRANGERS}) do
    for _, e in ipairs(redis.call(command, log, from, to, 'COUNT', most)) do
      local n = number(e)
      if n then return n, e[1] end
    end
  end
end

-- The number of the last event up to this place; of the one before the first, when there is none up to it.
local function number_upto(log, id)
  local n, at = first_of('XREVRANGE', log, id, '-')
  if n then return n, at end
  n = first_of('XRANGE', log, '-', '+')
  return n and n - 1, nil
end

