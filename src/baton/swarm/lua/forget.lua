-- Does: takes agents out of the index that are still silent; one that was heard of stays.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: silence in ms after which an agent is forgotten
-- ARGV[2...]: agent ids
-- Returns: those of the ids that are not in the index now; a repeat returns the same
-- Errors: none of its own

local time = redis.call('TIME')
local before_ms = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]

local gone = {}
for i = 2, #ARGV do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '0')
  if math.abs(score) < before_ms then
    redis.call('ZREM', KEYS[1], ARGV[i])
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
