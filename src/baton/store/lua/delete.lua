-- Does: deletes a session, a slice of chunks a call. The first call hides it from readers and
--       writers; the last removes it. Chunks go before the keys that count them, so that a new
--       session of the same name can never meet an old one's chunks. The audit stays.
--       A deletion has an id: only the call that brings it begins one, and a repeat of that call,
--       or a call that only helps to finish, never touches the session that came after.
-- KEYS[1]: the session's base key
-- ARGV[1]: agent   ARGV[2]: the deletion's id, or "" to finish what another began
-- ARGV[3]: the caller as JSON {host, client}; may be missing
-- Returns: {1, 0} done; {0, chunks left} call again; {-1, 0} there is no such session;
--          {-2, 0} its content is in the archive, which alone can erase it; {-3, 0} it is under hold
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local agent, deletion = ARGV[1], ARGV[2]
local caller = ARGV[3] and cjson.decode(ARGV[3]) or nil
local DONE_MS = 24 * 3600 * 1000
local fields = redis.call('HMGET', base, 'state', 'next_chunk', 'head', 'deletion', 'archived',
                          'hold')
local state = fields[1]
if deletion ~= '' and redis.call('GET', base .. ':deleted') == deletion then
  return {1, 0}
end
if not state then
  return {deletion == '' and 1 or -1, 0}
end
if state ~= 'deleting' and deletion == '' then
  return {1, 0}
end
if state ~= 'deleting' and fields[6] then
  return {-3, 0}
end
if state ~= 'deleting' and fields[5] == '1' then
  return {-2, 0}
end

local left = tonumber(fields[2] or '0')
local first = math.max(left - SLICE, 0)
check_audit(base)
-- Freeing comes first: a full server refuses the first write of a script if it could need memory.
redis.call('UNLINK', base .. ':access')
for id = first, left - 1 do
  redis.call('UNLINK', base .. ':chunks:' .. number_text(id))
end
local id = fields[4] or deletion
local now_ms = math.floor(redis_now_us() / 1000)
if state ~= 'deleting' then
  id = deletion
  append_audit(base, {at = now_ms, agent = agent,
                      operation = 'deleted', version = fields[3] or '', caller = caller,
                      details = {chunks = left}})
end
if first > 0 then
  redis.call('HSET', base, 'state', 'deleting', 'deletion', id, 'next_chunk', number_text(first),
             'deleting_at', number_text(now_ms))
  return {0, first}
end
for _, suffix in ipairs(SMALL_KEYS) do
  redis.call('UNLINK', base .. suffix)
end
redis.call('SET', base .. ':deleted', id, 'PX', DONE_MS)
return {1, 0}
