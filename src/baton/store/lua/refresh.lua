-- Does: moves the expiry of a slice of a session's chunks, and with the last slice of all its keys
-- KEYS[1]: the session's base key
-- ARGV[1]: backstop in ms   ARGV[2]: first chunk id of this slice
-- Returns: the first chunk id of the next slice, or -1 when all is done or the session is gone or archived
-- Errors:  none of its own
-- include: expiry.lua
local base = KEYS[1]
local backstop_ms = tonumber(ARGV[1])
local first = tonumber(ARGV[2])
local state, archived = unpack(redis.call('HMGET', base, 'state', 'archived'))
if state ~= 'live' or archived == '1' then
  return -1
end
local next_chunk = tonumber(redis.call('HGET', base, 'next_chunk') or '0')
local last = math.min(first + SLICE, next_chunk) - 1
expire_chunks(base, first, last, backstop_ms)
if last + 1 < next_chunk then
  return last + 1
end
expire_small_keys(base, backstop_ms)
redis.call('HSET', base, 'refreshed_at', number_text(math.floor(redis_now_us() / 1000)))
return -1
