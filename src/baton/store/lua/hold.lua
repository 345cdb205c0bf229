-- Does: puts a session under hold, or releases it. Under hold nothing of it expires, and nothing
--       deletes or purges it. A slice of chunks a call; the first call sets the mark.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {reason, agent, caller, backstop_ms, tombstone_ms}; reason is "" for a release
-- ARGV[2]: first chunk id of this slice
-- Returns: {answer, first chunk id of the next slice or -1}, answer one of ok, repeated, absent
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local first = tonumber(ARGV[2])
local now_ms = math.floor(redis_now_us() / 1000)
local state, archived, hold, next_chunk, head, purge_at = unpack(redis.call(
  'HMGET', base, 'state', 'archived', 'hold', 'next_chunk', 'head', 'purge_at'))
if state ~= 'live' then
  return {'absent', -1}
end
check_audit(base)
local wanted = request.reason ~= '' and request.reason or false
local is_new = (hold or false) ~= wanted
if first == 0 and is_new then
  if wanted then
    redis.call('HSET', base, 'hold', wanted)
  else
    redis.call('HDEL', base, 'hold')
  end
  redis.call('HINCRBY', base, 'epoch', 1)
  append_audit(base, {at = now_ms, agent = request.agent, operation = wanted and 'held' or 'released',
                      version = head, caller = request.caller, details = {reason = wanted or nil}})
end
local answered = is_new and 'ok' or 'repeated'
if archived == '1' then
  for _, key in ipairs({base, base .. ':version'}) do
    if wanted then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIREAT', key, number_text(math.max(tonumber(purge_at), now_ms)
                                               + request.tombstone_ms))
    end
  end
  return {answered, -1}
end
local last = math.min(first + SLICE, tonumber(next_chunk)) - 1
-- Of a release the names come last: its chunks go by how long these live.
expire_chunks(base, first, last, request.backstop_ms)
if last + 1 < tonumber(next_chunk) then
  return {answered, last + 1}
end
expire_small_keys(base, request.backstop_ms)
return {answered, -1}
