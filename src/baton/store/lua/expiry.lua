-- Shared by the session scripts: key names and expiries.
-- A session under hold has no expiry: its keys have none until the hold is released.
-- A chunk outlives the keys that name it by CHUNK_MARGIN, so that a session runs out as a whole:
-- first it is "not found", and only then do its chunks go.
local SMALL_KEYS = {'', ':version', ':metadata', ':manifests', ':checkpoints', ':history',
                    ':authors', ':operations', ':access', ':tags', ':pins', ':conflicts', ':pending',
                    ':key', ':past'}
local REFRESH_EVERY_MS = 3600 * 1000
local CHUNK_MARGIN_MS = 2 * REFRESH_EVERY_MS
local SLICE = 500

local function redis_now_us()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function number_text(n)
  return string.format('%.0f', n)
end

-- Never less than what the session's own durations need.
local function own_backstop_ms(base, backstop_ms)
  return math.max(backstop_ms, tonumber(redis.call('HGET', base, 'backstop_ms') or '0') or 0)
end

local function is_held(base)
  return redis.call('HEXISTS', base, 'hold') == 1
end

local function expire_small_keys(base, backstop_ms)
  local held = is_held(base)
  backstop_ms = own_backstop_ms(base, backstop_ms)
  for _, suffix in ipairs(SMALL_KEYS) do
    if held then
      redis.call('PERSIST', base .. suffix)
    else
      redis.call('PEXPIRE', base .. suffix, backstop_ms)
    end
  end
end

local function keep_chunk(base, id, held, life_ms)
  if held then
    redis.call('PERSIST', base .. ':chunks:' .. number_text(id))
  else
    redis.call('PEXPIRE', base .. ':chunks:' .. number_text(id), life_ms)
  end
end

-- Never before the names: another store may have given them a longer backstop.
local function chunk_life_ms(base, backstop_ms)
  return math.max(own_backstop_ms(base, backstop_ms), redis.call('PTTL', base)) + CHUNK_MARGIN_MS
end

local function expire_chunks(base, first, last, backstop_ms)
  local held, life_ms = is_held(base), chunk_life_ms(base, backstop_ms)
  for id = first, last do
    keep_chunk(base, id, held, life_ms)
  end
end

-- A key that a later script may have created joins the deadline of the session it belongs to.
local function adopt_expiry(base, suffixes)
  local left_ms = redis.call('PTTL', base)
  if left_ms > 0 then
    for _, suffix in ipairs(suffixes) do
      if redis.call('PTTL', base .. suffix) == -1 then
        redis.call('PEXPIRE', base .. suffix, left_ms)
      end
    end
  end
end

-- The chunks first, the names last: a refresh that stops half-way leaves the earlier deadline.
local function refresh_all(base, backstop_ms, now_ms)
  local next_chunk = tonumber(redis.call('HGET', base, 'next_chunk') or '0')
  expire_chunks(base, 0, next_chunk - 1, backstop_ms)
  expire_small_keys(base, backstop_ms)
  redis.call('HSET', base, 'refreshed_at', number_text(now_ms))
end

local function refresh_is_due(base, backstop_ms, now_ms)
  local every = math.min(REFRESH_EVERY_MS, backstop_ms / 10)
  -- The absolute age: after a clock that ran ahead was set back, it is due as well.
  return math.abs(now_ms - tonumber(redis.call('HGET', base, 'refreshed_at') or '0')) >= every
end
