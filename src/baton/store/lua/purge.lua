-- Does: takes away the tombstone of a session whose content the archive has erased. The audit stays.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {shelf, agent, caller, details}: which copy was erased, and the receipt of it
-- Returns: purged; repeated (there is no tombstone of that copy any more); held
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local archived, shelf, hold, head = unpack(redis.call('HMGET', base, 'archived', 'shelf', 'hold',
                                                      'head'))
if hold and shelf == request.shelf then
  return 'held'
end
check_audit(base)
local now_ms = math.floor(redis_now_us() / 1000)
local is_there = archived == '1' and shelf == request.shelf
if is_there then
  for _, suffix in ipairs(SMALL_KEYS) do
    redis.call('UNLINK', base .. suffix)
  end
end
-- A receipt is written once for each copy, whether its tombstone was still there or not.
local mark = base .. ':purged'
if redis.call('GET', mark) == request.shelf then
  return 'repeated'
end
redis.call('SET', mark, request.shelf, 'PX', 24 * 3600 * 1000)
append_audit(base, {at = now_ms, agent = request.agent, operation = 'purged', version = head or '',
                    caller = request.caller, details = request.details})
return 'purged'
