-- Shared by the breaker scripts: whether a model's breaker is open, by this server's clock.
--
-- The hash has `times` (openings in a row), `open_until` (s), and of a probe under way `probe` (its
-- call id) and `probe_until` (s); a closed breaker has no hash. Beside it lies
--   :outcomes   sorted set: `call id:ok` or `call id:overloaded` -> when it ended (s)
local KEEP_SECONDS = 3600

local function load_breaker(base)
  local stored = redis.call('HMGET', base, 'times', 'open_until', 'probe', 'probe_until')
  return {times = tonumber(stored[1] or 0), open_until = tonumber(stored[2] or 0),
          probe = stored[3] or '', probe_until = tonumber(stored[4] or 0)}
end

local function save_breaker(base, breaker, now)
  redis.call('HSET', base, 'times', breaker.times, 'open_until', number_text(breaker.open_until),
             'probe', breaker.probe, 'probe_until', number_text(breaker.probe_until))
  local ends = math.max(breaker.open_until, breaker.probe_until)
  redis.call('PEXPIRE', base,
             string.format('%.0f', (math.max(0, ends - now) + KEEP_SECONDS) * 1000))
end
