-- Does: lets a call of a model go if its breaker is closed, or if the call is to be the probe.
-- KEYS[1]: the model's breaker, a hash
-- ARGV[1]: call id   ARGV[2]: longest time that it is open, s   ARGV[3]: time a probe may take, s
-- Returns: milliseconds to wait, 0 if the call may go
-- Errors: none of its own
-- include: clock.lua
-- include: breaker.lua
local PROBED_SECONDS = 1
local breaker = load_breaker(KEYS[1])
if breaker.times == 0 or breaker.probe == ARGV[1] then
  return 0
end
local now = redis_now()

-- A clock that was set back keeps neither the breaker open nor a probe under way for longer.
local open_for = math.min(breaker.open_until - now, tonumber(ARGV[2]))
if open_for > 0 then
  return math.ceil(open_for * 1000)
end
local probed_for = math.min(breaker.probe_until - now, tonumber(ARGV[3]))
if breaker.probe ~= '' and probed_for > 0 then
  return math.ceil(math.min(PROBED_SECONDS, probed_for) * 1000)
end
breaker.probe = ARGV[1]
breaker.probe_until = now + tonumber(ARGV[3])
save_breaker(KEYS[1], breaker, now)
return 0
