-- Does: gives keys of a session that have no expiry the one they should have. Under hold, what holds
--       the content has none.
-- KEYS[1]: the session's base key
-- ARGV[1]: backstop in ms   ARGV[2]: how long a tombstone outlives its copy, in ms
-- ARGV[3...]: what stands behind the base key in their names
-- Returns: how many were given one
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local backstop_ms, tombstone_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now_ms = math.floor(redis_now_us() / 1000)
local STAGING_MS = 60 * 1000
local MARK_MS = 24 * 3600 * 1000
local archived, purge_at = unpack(redis.call('HMGET', base, 'archived', 'purge_at'))
local held = is_held(base)

local function give(key, life_ms)
  if redis.call('PTTL', key) == -1 then
    return redis.call('PEXPIRE', key, number_text(life_ms))
  end
  return 0
end

-- Its names run out together, and its chunks after them.
local function content_life_ms(is_chunk)
  if archived == '1' then
    return math.max(tonumber(purge_at or '0'), now_ms) - now_ms + tombstone_ms
  end
  if is_chunk then
    return chunk_life_ms(base, backstop_ms)
  end
  local left_ms = redis.call('PTTL', base)
  return left_ms > 0 and left_ms or own_backstop_ms(base, backstop_ms)
end

local small_ms, chunk_ms = content_life_ms(false), content_life_ms(true)
local given = 0
for i = 3, #ARGV do
  local suffix = ARGV[i]
  local key = base .. suffix
  if string.sub(suffix, 1, 6) == ':audit' then
    given = given + give(key, AUDIT_MS)
  elseif suffix == ':deleted' or suffix == ':purged' then
    given = given + give(key, MARK_MS)
  elseif string.sub(suffix, 1, 9) == ':staging:' then
    given = given + give(key, STAGING_MS)
  elseif not held then
    given = given + give(key, string.sub(suffix, 1, 8) == ':chunks:' and chunk_ms or small_ms)
  end
end
return given
