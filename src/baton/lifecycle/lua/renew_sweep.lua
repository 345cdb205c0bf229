-- Does: has a run's lease begin again now, and notes how far it is.
-- KEYS[1]: sweep:{name}
-- ARGV[1]: run id   ARGV[2]: lease in ms   ARGV[3]: items done, or ``   ARGV[4]: of how many, or ``
-- ARGV[5]: how long the status is kept (ms)
-- Returns: 1, or 0 where the run holds it no longer
-- Errors:  none of its own
-- include: sweeps.lua
local base = KEYS[1]
if redis.call('GET', base .. ':running') ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', base .. ':running', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', base .. ':status', 'done', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('HSET', base .. ':status', 'total', ARGV[4])
end
keep_status(base, ARGV[5])
return 1
