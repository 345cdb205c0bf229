-- Does: notes how a call of a model ended, and opens or closes its breaker. While it is open only
--       the probe's end counts. A repeat changes nothing.
-- KEYS[1]: the model's breaker, a hash; the sibling `:outcomes` as in breaker.lua
-- ARGV[1]: call id   ARGV[2]: 'ok', 'overloaded' or 'unknown'
-- ARGV[3]: failures that open it   ARGV[4]: of so many calls   ARGV[5]: that ended within so many s
-- ARGV[6]: time that it is open at first, s   ARGV[7]: at most, s
-- Returns: 'closed' or 'open', as it is then
-- Errors: none of its own
-- include: clock.lua
-- include: breaker.lua
local base, outcomes = KEYS[1], KEYS[1] .. ':outcomes'
local call, ended = ARGV[1], ARGV[2]
local now = redis_now()
local breaker = load_breaker(base)

local function open()
  breaker.times = breaker.times + 1
  local seconds = math.min(tonumber(ARGV[7]), tonumber(ARGV[6]) * 2 ^ (breaker.times - 1))
  breaker.open_until = now + seconds
  breaker.probe, breaker.probe_until = '', 0
  save_breaker(base, breaker, now)
  redis.call('DEL', outcomes)
  return 'open'
end

if breaker.times > 0 then
  if breaker.probe ~= call then
    return 'open'
  elseif ended == 'overloaded' then
    return open()
  elseif ended == 'ok' then
    redis.call('DEL', base)
    return 'closed'
  end
  breaker.probe, breaker.probe_until = '', 0
  save_breaker(base, breaker, now)
  return 'open'
end

if ended == 'unknown' then
  return 'closed'
end
redis.call('ZADD', outcomes, 'NX', number_text(now), call .. ':' .. ended)
redis.call('ZREMRANGEBYRANK', outcomes, 0, -1 - tonumber(ARGV[4]))
redis.call('ZREMRANGEBYSCORE', outcomes, '-inf', number_text(now - tonumber(ARGV[5])))
redis.call('ZREMRANGEBYSCORE', outcomes, '(' .. number_text(now), '+inf')
redis.call('PEXPIRE', outcomes, string.format('%.0f', tonumber(ARGV[5]) * 1000 + 1000))
local failures = 0
for _, outcome in ipairs(redis.call('ZRANGE', outcomes, 0, -1)) do
  if string.find(outcome, ':overloaded', 1, true) then
    failures = failures + 1
  end
end
if failures >= tonumber(ARGV[3]) then
  return open()
end
return 'closed'
