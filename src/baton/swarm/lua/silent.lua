-- Does: reads agents not heard of for longer than a time. Writes nothing.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: the time in ms
-- ARGV[2]: '1' to include agents already marked dead, '0' to leave them out
-- ARGV[3]: most ids to return
-- Returns: agent ids
-- Errors: none of its own

local time = redis.call('TIME')
local before_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1])
-- A dead agent's score is the negative of its heartbeat: the long silent lie around zero.
local lowest = '(0'
if ARGV[2] == '1' then
  lowest = '(-' .. before_ms
end
return redis.call('ZRANGEBYSCORE', KEYS[1], lowest, '(' .. before_ms, 'LIMIT', 0, ARGV[3])
