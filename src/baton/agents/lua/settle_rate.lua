-- Does: gives back what a granted call did not use, or takes what it used beyond; a call that was
--       not granted gives up its place in line. A repeat changes nothing.
-- KEYS[1]: the model's buckets, a hash; siblings as in rate.lua
-- ARGV[1..3]: the limits, as in rate.lua   ARGV[4]: call id   ARGV[5]: handoff
-- ARGV[6]: tokens it was granted   ARGV[7]: tokens it used
-- Returns: 1 if the call was granted and not settled yet, else 0
-- Errors: none of its own
-- include: clock.lua
-- include: rate.lua
local base = KEYS[1]
local call, handoff, granted, used = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local rate = load_rate(base, redis_now())

if redis.call('ZREM', base .. ':granted', call) == 0 then
  local front = parse_front(rate, redis.call('HGET', base .. ':fronts', handoff))
  if front and front.call == call then
    leave_line(base, handoff)
  end
  return 0
end

take(rate.tokens, used - granted)
if redis.call('ZSCORE', base .. ':turns', handoff) then
  local more = seconds_of(rate, used) - seconds_of(rate, granted)
  redis.call('ZINCRBY', base .. ':turns', number_text(more), handoff)
end
save_rate(base, rate)
return 1
