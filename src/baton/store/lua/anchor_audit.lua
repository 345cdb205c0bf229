-- Does: notes that an anchor outside Redis has the head of a chain. Only a hint for the next sealer,
--       which else would anchor it again; a verification asks the anchor itself.
-- KEYS[1]: the session's base key
-- ARGV[1]: the chain   ARGV[2]: number of the segment that the head sealed
-- Returns: 1
-- Errors:  WRONGTYPE, with nothing written
local state = KEYS[1] .. ':audit_state'
local noted = redis.call('HMGET', state, 'anchored_chain', 'anchored')
local is_older = noted[1] == ARGV[1] and (tonumber(noted[2] or '0') or 0) >= tonumber(ARGV[2])
-- A trail that has expired must not come back as this one key.
if redis.call('EXISTS', state) == 1 and not is_older then
  redis.call('HSET', state, 'anchored_chain', ARGV[1], 'anchored', ARGV[2])
end
return 1
