-- Shared by the rate limit scripts: a model's two buckets, and the calls that wait for them.
--
-- Beside the buckets' hash lie:
--   :line     sorted set: handoff -> turn of its place in line
--   :fronts   hash: handoff -> `call id, tokens, until (s), behind` of the call that has the place;
--             `behind` counts those told to come after it
--   :turns    sorted set: handoff -> turn at which its next call begins, if that is ahead
--   :granted  sorted set: call id -> when it was granted (s), until it is settled
-- Turns are seconds of the scarcer bucket. ARGV[1..3] of each script: requests per minute, tokens
-- per minute (0: no limit), seconds of them that a full bucket holds.
local KEEP_SECONDS = 600
local LONGEST_HOLD_SECONDS = 3600
local LONGEST_WAIT_SECONDS = 2
local GRACE_SECONDS = 2
-- The first so many places in line are kept for: when that many wait, there is little to keep.
local LINE_AT_ONCE = 32
local AT_ONCE = 100

local function make_bucket(per_minute, level, elapsed)
  local rate = tonumber(per_minute) / 60
  local capacity = rate * tonumber(ARGV[3])
  local filled = (tonumber(level or capacity)) + rate * elapsed
  return {rate = rate, capacity = capacity, level = math.min(capacity, filled)}
end

-- A clock that was set back neither refills nor holds longer than any hold.
local function load_rate(base, now)
  local stored = redis.call('HMGET', base, 'requests', 'tokens', 'refilled_at', 'held_until', 'turn')
  local held_until = math.min(tonumber(stored[4] or 0), now + LONGEST_HOLD_SECONDS)
  local elapsed = math.max(0, now - math.max(tonumber(stored[3] or 0), held_until))
  return {
    now = now, held_until = held_until, turn = tonumber(stored[5] or 0),
    requests = make_bucket(ARGV[1], stored[1], elapsed),
    tokens = make_bucket(ARGV[2], stored[2], elapsed),
  }
end

-- A negative amount is given back; what is then above a full bucket, loading it drops.
local function take(bucket, amount)
  if bucket.rate > 0 then
    bucket.level = bucket.level - amount
  end
end

local function full_after(bucket)
  return bucket.rate > 0 and (bucket.capacity - bucket.level) / bucket.rate or 0
end

-- All keys live until nothing in them matters: full buckets are what no key means too.
local function save_rate(base, rate)
  redis.call('HSET', base, 'requests', number_text(rate.requests.level),
             'tokens', number_text(rate.tokens.level), 'refilled_at', number_text(rate.now),
             'held_until', number_text(rate.held_until), 'turn', number_text(rate.turn))
  local held = math.max(0, rate.held_until - rate.now)
  local seconds = KEEP_SECONDS + held + math.max(full_after(rate.requests), full_after(rate.tokens))
  for _, suffix in ipairs({'', ':line', ':fronts', ':turns', ':granted'}) do
    redis.call('PEXPIRE', base .. suffix, string.format('%.0f', seconds * 1000))
  end
end

-- What a call takes of the scarcer bucket, in seconds.
local function seconds_of(rate, tokens)
  local seconds = 0
  if rate.requests.rate > 0 then
    seconds = 1 / rate.requests.rate
  end
  if rate.tokens.rate > 0 then
    seconds = math.max(seconds, tokens / rate.tokens.rate)
  end
  return seconds
end

local function leave_line(base, handoff)
  redis.call('ZREM', base .. ':line', handoff)
  redis.call('HDEL', base .. ':fronts', handoff)
end

-- The call that has a handoff's place in line, or nil if none has, or has not come back in time.
local function parse_front(rate, stored)
  if not stored then
    return nil
  end
  local call, tokens, ends, behind = string.match(stored, '^(%S+) (%S+) (%S+) (%S+)$')
  local left = tonumber(ends) - rate.now
  local longest = LONGEST_HOLD_SECONDS + LONGEST_WAIT_SECONDS + GRACE_SECONDS
  if left < 0 or left > longest then
    return nil
  end
  return {call = call, tokens = tonumber(tokens), ends = tonumber(ends), behind = tonumber(behind)}
end

local function save_front(base, handoff, front)
  redis.call('HSET', base .. ':fronts', handoff,
             string.format('%s %.0f %.17g %d', front.call, front.tokens, front.ends, front.behind))
end
