#!lua flags=allow-oom
-- Given up: move a delivery to the dead letters of its group and let its lane go on.
-- ARGV  bell, group, consumer, id, fence, ordering key, reason, error, attempts
-- Returns 1, or 0 where the caller no longer owns it (or buried it before: the reply was lost).
local id = ARGV[4]
if owned(ARGV[3], {id})[id] ~= tonumber(ARGV[5]) then return 0 end
if bury(id, ARGV[6], ARGV[7], ARGV[8], ARGV[9]) > 0 then ring() end
return 1
