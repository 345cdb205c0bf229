-- Does: reads who was heard of within a time, by this server's clock. Writes nothing.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: the time in ms
-- Returns: agent id, score, agent id, score ... newest heartbeat first
-- Errors: none of its own

local time = redis.call('TIME')
local since_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1])
return redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', since_ms, 'WITHSCORES')
