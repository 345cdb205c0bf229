-- Does: lets go of a session whose copy is safe in the archive, if nothing has happened to it since it
--       was copied. What stays is a tombstone: the container and the head's version. A slice of
--       chunks a call; the first call hides the content from readers and writers.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {shelf, copy, agent, caller, etag, epoch, accessed_at, archived_ms}: where the copy
--          is; what the session was when it was copied; how long the archive keeps it
-- ARGV[2]: how long the tombstone outlives that, in ms
-- Returns: {answer, chunks left, purge time in ms}, answer one of done, more (call again), changed,
--          absent, elsewhere (another copy took its place)
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local now_ms = math.floor(redis_now_us() / 1000)
local state, archived, shelf, copy, etag, epoch, left, next_chunk, head, purge_at =
  unpack(redis.call('HMGET', base, 'state', 'archived', 'shelf', 'copy', 'head_etag', 'epoch',
                    'clearing', 'next_chunk', 'head', 'purge_at'))
if state ~= 'live' then
  return {'absent', 0, '0'}
end
if archived == '1' then
  if shelf ~= request.shelf or copy ~= request.copy then
    return {'elsewhere', 0, '0'}
  end
  if not left then
    return {'done', 0, purge_at}
  end
else
  local access = base .. ':access'
  -- A note that is not drained yet is an access that nobody has seen.
  if etag ~= request.etag or (epoch or '0') ~= request.epoch or redis.call('LLEN', access) > 1
      or redis.call('HGET', base .. ':metadata', 'last_accessed_at') ~= request.accessed_at then
    return {'changed', 0, '0'}
  end
  left = next_chunk
  purge_at = number_text(now_ms + request.archived_ms)
end
left = tonumber(left)
check_audit(base)

-- Every check has passed; from here on only writes. Freeing comes first: a full server refuses the
-- first write of a script if it could need memory.
redis.call('UNLINK', base .. ':access')
local first = math.max(left - SLICE, 0)
for id = first, left - 1 do
  redis.call('UNLINK', base .. ':chunks:' .. number_text(id))
end
if archived ~= '1' then
  redis.call('HSET', base, 'archived', '1', 'shelf', request.shelf, 'copy', request.copy,
             'archived_at', number_text(now_ms), 'purge_at', purge_at)
  redis.call('HINCRBY', base, 'epoch', 1)
  append_audit(base, {at = now_ms, agent = request.agent, operation = 'archived', version = head,
                      caller = request.caller,
                      details = {shelf = request.shelf, copy = request.copy}})
end
if first > 0 then
  redis.call('HSET', base, 'clearing', number_text(first))
  return {'more', first, purge_at}
end
for _, suffix in ipairs(SMALL_KEYS) do
  if suffix ~= '' and suffix ~= ':version' then
    redis.call('UNLINK', base .. suffix)
  end
end
redis.call('HDEL', base, 'clearing')
if not is_held(base) then
  local ends_at = number_text(tonumber(purge_at) + tonumber(ARGV[2]))
  redis.call('PEXPIREAT', base, ends_at)
  redis.call('PEXPIREAT', base .. ':version', ends_at)
end
return {'done', 0, purge_at}
