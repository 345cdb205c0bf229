-- Does: gives a session lifecycle durations of its own, or takes them away; its keys live as long as
--       they need it from the next refresh on.
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {agent, caller, fields: {active_ms, archive_ms, keep_ms, backstop_ms}}; a field that
--          is "" is taken away
-- Returns: ok; absent; archived
-- Errors:  WRONGTYPE, with nothing written
-- include: expiry.lua
-- include: audit.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local state, archived, head = unpack(redis.call('HMGET', base, 'state', 'archived', 'head'))
if state ~= 'live' then
  return 'absent'
elseif archived == '1' then
  return 'archived'
end
check_audit(base)
for name, value in pairs(request.fields) do
  if value == '' then
    redis.call('HDEL', base, name)
  else
    redis.call('HSET', base, name, number_text(value))
  end
end
append_audit(base, {at = math.floor(redis_now_us() / 1000), agent = request.agent,
                    operation = 'aged', version = head, caller = request.caller,
                    details = request.fields})
return 'ok'
