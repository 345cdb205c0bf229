-- Does: marks agents dead that are still silent; one that was heard of meanwhile stays active.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: silence in ms after which an agent is dead
-- ARGV[2...]: agent ids
-- Returns: those of the ids that are dead now; a repeat returns the same
-- Errors: none of its own

local time = redis.call('TIME')
local before_ms = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]

local dead = {}
for i = 2, #ARGV do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '+inf')
  if score < before_ms then
    if score > 0 then
      redis.call('ZADD', KEYS[1], string.format('%.0f', -score), ARGV[i])
    end
    dead[#dead + 1] = ARGV[i]
  end
end
return dead
