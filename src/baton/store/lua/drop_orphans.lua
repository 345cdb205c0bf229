-- Does: drops keys of a session that has no container, unless it has one by now
-- KEYS[1]: the session's base key
-- ARGV[1...]: what stands behind the base key in their names
-- Returns: how many were dropped; -1 there is a container, nothing was dropped
-- Errors:  none of its own
local base = KEYS[1]
if redis.call('EXISTS', base) == 1 then
  return -1
end
local dropped = 0
for _, suffix in ipairs(ARGV) do
  dropped = dropped + redis.call('UNLINK', base .. suffix)
end
return dropped
