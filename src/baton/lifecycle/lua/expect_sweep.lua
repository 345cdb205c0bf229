-- Does: has a sweep be late counted from now, as whoever schedules it has just begun to. Not twice
--       in six periods: a beat that dies again and again must not look like one that just began.
-- KEYS[1]: sweep:{name}
-- ARGV[1]: period in ms   ARGV[2]: how long the status is kept (ms)
-- Returns: 1 if it counts from now, 0 if it had been expected already
-- Errors:  none of its own
-- include: sweeps.lua
local base = KEYS[1]
local status, now_ms, period_ms = base .. ':status', redis_now_ms(), tonumber(ARGV[1])
local since_ms = tonumber(redis.call('HGET', status, 'expected_since_ms'))
redis.call('HSET', status, 'period_ms', ARGV[1])
keep_status(base, ARGV[2])
if since_ms and now_ms - since_ms < 6 * period_ms then
  return 0
end
redis.call('HSET', status, 'expected_since_ms', number_text(now_ms))
return 1
