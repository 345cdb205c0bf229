-- Does: deletes a session, a slice of chunks a call. The first call hides it from readers and
--       writers; the last removes it. Chunks go before the keys that count them, so that a new
--       session of the same name can never meet an old one's chunks. The audit stays.
-- KEYS[1]: the session's base key
-- ARGV[1]: agent
-- Returns: {1, 0} done; {0, chunks left} call again; {-1, 0} there is no such session
-- Errors:  none of its own
-- include: expiry.lua
local base = KEYS[1]
local fields = redis.call('HMGET', base, 'state', 'next_chunk', 'head')
if not fields[1] then
  return {-1, 0}
end
local left = tonumber(fields[2] or '0')
if fields[1] ~= 'deleting' then
  redis.call('HSET', base, 'state', 'deleting')
  append_audit(base, {at = math.floor(redis_now_us() / 1000), agent = ARGV[1],
                      operation = 'deleted', version = fields[3] or '',
                      details = {chunks = left}})
end
local first = math.max(left - SLICE, 0)
for id = first, left - 1 do
  redis.call('UNLINK', base .. ':chunks:' .. number_text(id))
end
if first > 0 then
  redis.call('HSET', base, 'next_chunk', number_text(first))
  return {0, first}
end
for _, suffix in ipairs(SMALL_KEYS) do
  redis.call('UNLINK', base .. suffix)
end
return {1, 0}
