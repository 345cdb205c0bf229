-- Does: records how the receiver of a package acknowledges it, once; where it refuses, the handoff
--       can start nothing from here on, and ends failed when its waiting nodes have been ended
-- KEYS[1]: the handoff's base key; a package may be there without a handoff
-- ARGV[1]: JSON {by, checks}   ARGV[2]: who   ARGV[3]: why it is refused, or ""
-- ARGV[4]: "1" if an acceptance replaces a refusal
-- Returns: {JSON, when (ms)} of the acknowledgement that counts; nil if there is no package
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local package = base .. ':package'
if redis.call('HEXISTS', package, 'package') == 0 then
  return false
end
local known, at, refusal =
  unpack(redis.call('HMGET', package, 'acknowledgement', 'acknowledged_at', 'refusal'))
local replaces = ARGV[4] == '1' and ARGV[3] == '' and refusal ~= ''
if known and not replaces then
  return {known, at}
end
local now_ms = redis_now_ms()
redis.call('HSET', package, 'acknowledgement', ARGV[1], 'acknowledged_at', number_text(now_ms),
           'refusal', ARGV[3])
local state = redis.call('HGET', base, 'state')
if state then
  emit(base, {type = 'acknowledgement', state = ARGV[3] == '' and 'accepted' or 'refused',
              text = ARGV[2], error = ARGV[3]})
end
if ARGV[3] ~= '' and state == 'running' then
  redis.call('HSET', base, 'failed_fast', 'package', 'error_type', 'StaleHandoffError',
             'error', ARGV[3])
  cancel(base, now_ms)
end
return {ARGV[1], number_text(now_ms)}
