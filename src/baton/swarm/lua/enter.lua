-- Does: puts a registered agent into the index, and drops entries whose records have expired.
-- KEYS[1]: agents:index, a sorted set; |score| = last heartbeat in ms, negative = marked dead
-- ARGV[1]: agent id
-- ARGV[2]: retention in ms, the expiry of the index and of every record
-- Returns: the heartbeat's time in ms since the epoch
-- Errors: none of its own

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local expired_ms = string.format('%.0f', now_ms - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-' .. expired_ms, expired_ms)
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return string.format('%.0f', now_ms)
