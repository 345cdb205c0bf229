-- Does: ends a handoff with its outcome, for the holder of the newest join token only
-- KEYS[1]: the handoff's base key
-- ARGV[1]: fencing token   ARGV[2]: done | degraded | failed
-- ARGV[3]: JSON of fields to set (merged_version, error, error_type)
-- ARGV[4]: staging key of the merged result, or ""
-- Returns: {"done", state}, {"fenced", state}, or {"missing", ""} if the staged result has expired.
--          Asked twice, answers the same.
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local state, fence, ended_by = unpack(header(base, 'state', 'join_fence', 'ended_by'))
if ended_by and ended_by == ARGV[1] then
  return {'done', state}
end
if state ~= 'joining' or fence ~= ARGV[1] then
  return {'fenced', state or 'gone'}
end
if ARGV[4] ~= '' and redis.call('EXISTS', ARGV[4]) == 0 then
  return {'missing', ''}
end
for name, value in pairs(cjson.decode(ARGV[3])) do
  redis.call('HSET', base, name, value)
end
redis.call('HSET', base, 'ended_by', ARGV[1])
if ARGV[4] ~= '' then
  redis.call('RENAME', ARGV[4], base .. ':merged')
end
end_handoff(base, ARGV[2], redis_now_ms())
return {'done', ARGV[2]}
