-- Does: keeps one worker's report in its pool's hash, dated by this server's clock, and forgets
--       reports that nobody renewed.
-- KEYS[1]: the pool's hash, `pools:{POOL}` or `pools:{POOL}:supervisor`
-- ARGV[1]: the worker's name; ARGV[2]: its report, JSON
-- ARGV[3]: milliseconds after which an unrenewed report is forgotten; also the hash's expiry
-- Returns: the time of the report, milliseconds since 1970
-- Errors: none
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local keep = tonumber(ARGV[3])

local reports = redis.call('HGETALL', KEYS[1])
for i = 1, #reports, 2 do
  local at = tonumber(string.match(reports[i + 1], '^%d+')) or 0
  if now - at > keep then
    redis.call('HDEL', KEYS[1], reports[i])
  end
end

redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], keep)
return now
