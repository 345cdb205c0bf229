-- Does: grants a call of a model if its buckets hold enough for it and for the places in line
--       before it; else gives its handoff a place, and says when to ask again. Asked again after a
--       grant, it takes nothing more.
-- KEYS[1]: the model's buckets, a hash; siblings as in rate.lua
-- ARGV[1..3]: the limits, as in rate.lua   ARGV[4]: call id   ARGV[5]: handoff   ARGV[6]: tokens
-- Returns: milliseconds to wait, 0 if granted
-- Errors: none of its own
-- include: clock.lua
-- include: rate.lua
local base = KEYS[1]
local call, handoff, tokens = ARGV[4], ARGV[5], tonumber(ARGV[6])
if redis.call('ZSCORE', base .. ':granted', call) then
  return 0
end
local rate = load_rate(base, redis_now())

local front = parse_front(rate, redis.call('HGET', base .. ':fronts', handoff))
local is_front = not front or front.call == call
local turn = math.max(rate.turn, tonumber(redis.call('ZSCORE', base .. ':turns', handoff) or 0))
if front then
  local placed = tonumber(redis.call('ZSCORE', base .. ':line', handoff) or rate.turn)
  turn = math.max(placed, tonumber(redis.call('ZSCORE', base .. ':turns', handoff) or 0))
end

-- What is to be had before this call goes: by itself, and by the places before it.
local requests_needed = math.min(1, rate.requests.capacity)
local tokens_needed = math.min(tokens, rate.tokens.capacity)
local own_tokens = tokens_needed
local function let_pass(other, times)
  requests_needed = requests_needed + times
  tokens_needed = tokens_needed + times * math.min(other, rate.tokens.capacity)
end

-- Of the same turn, a place taken goes before one that is yet to be taken.
local up_to = (front and '(' or '') .. number_text(turn)
local before = redis.call('ZRANGEBYSCORE', base .. ':line', '-inf', up_to, 'LIMIT', 0,
                          LINE_AT_ONCE)
local fronts = #before > 0 and redis.call('HMGET', base .. ':fronts', unpack(before)) or {}
for i, other in ipairs(before) do
  local ahead = parse_front(rate, fronts[i])
  if not ahead then
    leave_line(base, other)
  elseif other ~= handoff then
    let_pass(ahead.tokens, 1)
  end
end
if not is_front then
  let_pass(front.tokens, 1)
end

local held = math.max(0, rate.held_until - rate.now)
local function missing_seconds()
  local seconds = 0
  if rate.requests.rate > 0 then
    seconds = (requests_needed - rate.requests.level) / rate.requests.rate
  end
  if rate.tokens.rate > 0 then
    seconds = math.max(seconds, (tokens_needed - rate.tokens.level) / rate.tokens.rate)
  end
  return seconds
end

if held == 0 and missing_seconds() <= 0 then
  take(rate.requests, 1)
  take(rate.tokens, tokens)
  redis.call('ZADD', base .. ':granted', number_text(rate.now), call)
  if front and is_front then
    leave_line(base, handoff)
  end
  -- The turn at which newcomers join goes on with what all got: else handoffs of one call each,
  -- if only they never end, would go before all that has waited.
  local seconds = seconds_of(rate, tokens)
  local in_line = redis.call('ZCARD', base .. ':line')
  rate.turn = math.max(turn, rate.turn + seconds / (1 + in_line))
  redis.call('ZADD', base .. ':turns', number_text(turn + seconds), handoff)
  -- A turn that is not ahead says nothing, nor does a grant that nobody settles any more.
  local past = redis.call('ZRANGEBYSCORE', base .. ':turns', '-inf', number_text(rate.turn),
                          'LIMIT', 0, AT_ONCE)
  if #past > 0 then
    redis.call('ZREM', base .. ':turns', unpack(past))
  end
  local old = redis.call('ZRANGEBYSCORE', base .. ':granted', '-inf',
                         number_text(rate.now - KEEP_SECONDS), 'LIMIT', 0, AT_ONCE)
  if #old > 0 then
    redis.call('ZREM', base .. ':granted', unpack(old))
  end
  save_rate(base, rate)
  return 0
end

-- Those behind are told to come one after the other, not all at once.
if not is_front then
  let_pass(own_tokens, front.behind)
  front.behind = front.behind + 1
end
local wait = held + math.min(LONGEST_WAIT_SECONDS, math.max(0, missing_seconds()))
local wait_ms = math.max(1, math.ceil(wait * 1000))
if is_front then
  front = {call = call, tokens = tokens, behind = front and front.behind or 0,
           ends = rate.now + wait_ms / 1000 + GRACE_SECONDS}
  redis.call('ZADD', base .. ':line', number_text(turn), handoff)
end
save_front(base, handoff, front)
save_rate(base, rate)
return wait_ms
