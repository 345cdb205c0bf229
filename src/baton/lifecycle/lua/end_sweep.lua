-- Does: records how a run ended and lets go of it; nothing where the run holds it no longer.
-- KEYS[1]: sweep:{name}
-- ARGV[1]: run id   ARGV[2]: what it did, a whole number; `` where it failed
-- ARGV[3]: why it failed; `` where it did not   ARGV[4]: how long the status is kept (ms)
-- Returns: 1, or 0 where the run holds it no longer
-- Errors:  none of its own
-- include: sweeps.lua
local base = KEYS[1]
if redis.call('GET', base .. ':running') ~= ARGV[1] then
  return 0
end
local status, now_ms = base .. ':status', redis_now_ms()
local started_ms = tonumber(redis.call('HGET', status, 'started_at_ms')) or now_ms
redis.call('DEL', base .. ':running')
redis.call('HSET', status, 'ended_at_ms', number_text(now_ms), 'error', ARGV[3])
redis.call('HINCRBY', status, 'busy_ms', number_text(math.max(0, now_ms - started_ms)))
if ARGV[2] == '' then
  redis.call('HINCRBY', status, 'failures', 1)
else
  redis.call('HSET', status, 'succeeded_at_ms', number_text(now_ms), 'result', ARGV[2])
  redis.call('HINCRBY', status, 'items', ARGV[2])
end
keep_status(base, ARGV[4])
return 1
