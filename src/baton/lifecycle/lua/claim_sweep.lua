-- Does: takes the current period of a sweep, unless somebody has, or a run that began in an earlier
--       one is still at it. Asked twice by one run, answers the same while that holds it.
-- KEYS[1]: sweep:{name}
-- ARGV[1]: run id   ARGV[2]: period in ms   ARGV[3]: how long the claim stays (ms)
-- ARGV[4]: lease in ms   ARGV[5]: how long the status is kept (ms)
-- Returns: `claimed`, `taken` or `running`
-- Errors:  none of its own
-- include: sweeps.lua
local base, run = KEYS[1], ARGV[1]
local holder = redis.call('GET', base .. ':running')
if holder == run then
  return 'claimed'
end
if holder then
  return 'running'
end
if redis.call('EXISTS', base) == 1 then
  return 'taken'
end
local status = base .. ':status'
redis.call('SET', base, run, 'PX', ARGV[3])
redis.call('SET', base .. ':running', run, 'PX', ARGV[4])
local now_ms = number_text(redis_now_ms())
redis.call('HSET', status, 'started_at_ms', now_ms, 'period_ms', ARGV[2])
redis.call('HSETNX', status, 'expected_since_ms', now_ms)
redis.call('HDEL', status, 'done', 'total')
redis.call('HINCRBY', status, 'runs', 1)
keep_status(base, ARGV[5])
return 'claimed'
