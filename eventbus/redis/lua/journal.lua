#!lua
-- Append log lines to the journal, warnings to their own part as well; in each the oldest ones make room.
-- KEYS  journal, its warnings   ARGV  how many are kept in each, then per line 1 for a warning, else 0, and the line
-- Not flagged allow-oom: the last memory is for what runs, not for what is said about it.
for i = 2, #ARGV, 2 do
  local id = redis.call('XADD', KEYS[1], '*', 'l', ARGV[i+1])
  if ARGV[i] == '1' then
    redis.pcall('XADD', KEYS[2], id, 'l', ARGV[i+1])  -- refused where somebody deleted the journal and the clock is late
  end
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[1])
