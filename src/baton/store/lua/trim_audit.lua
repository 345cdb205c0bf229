-- Does: takes one sealed segment off the front of the trail, if it is the one that is next.
-- KEYS[1]: the session's base key
-- ARGV[1]: its first_seq   ARGV[2]: its last_seq
-- Returns: entries taken; 0 if it is not in front (any more)
-- Errors:  WRONGTYPE, with nothing written
local audit, state = KEYS[1] .. ':audit', KEYS[1] .. ':audit_state'
local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
local trimmed = tonumber(redis.call('HGET', state, 'trimmed') or '0')
local count = last - first + 1
if trimmed ~= first - 1 or redis.call('LLEN', audit) < count then
  return 0
end
redis.call('LTRIM', audit, count, -1)
redis.call('HSET', state, 'trimmed', ARGV[2])
return count
