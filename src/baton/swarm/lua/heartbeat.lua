-- Does: notes that an agent is alive; one that was marked dead is active again.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: agent id
-- ARGV[2]: expiry of the index in ms
-- Returns: 1, or 0 if the index does not know the agent (nothing is written then)
-- Errors: none of its own

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
